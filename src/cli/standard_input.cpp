#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "cli/generate_options.h"

namespace easel::cli {

std::string read_prompt_from_standard_input() {
  constexpr std::size_t kLongest = 16 << 20;  // somebody piped a file that is no prompt
  std::string text;
  std::array<char, 4096> block;
  for (ssize_t count = 1; count != 0;) {
    count = ::read(STDIN_FILENO, block.data(), block.size());
    if (count < 0 && errno == EINTR) {
      check_interrupted();
    } else if (count < 0) {
      throw Error(ErrorKind::kFile, std::string("standard input cannot be read: ") + std::strerror(errno));
    } else {
      text.append(block.data(), static_cast<std::size_t>(count));
    }
    if (text.size() > kLongest) throw Error(ErrorKind::kUsage, "the prompt from standard input is longer than 16 MiB");
  }
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  return text;
}

}  // namespace easel::cli
