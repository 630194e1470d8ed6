#include "diffusion/spellings.h"

#include <cctype>

namespace easel::diffusion {

std::string normalised(std::string_view spelling) {
  std::string word;
  for (const char c : spelling) {
    if (c == ' ' || c == '-' || c == '_') continue;
    word += c == '+' ? 'p' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return word;
}

}  // namespace easel::diffusion
