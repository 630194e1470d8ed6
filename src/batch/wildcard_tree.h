// A prompt with wildcards, taken apart.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace easel {

struct WildcardPiece;
using WildcardText = std::vector<WildcardPiece>;  // one after another

struct WildcardPiece {
  enum class Kind { kText, kChoice, kFile } kind;
  std::string text = {};                   // the text, or the file's name
  std::vector<WildcardText> choices = {};  // at least two
};

// With a fault, the rest is not to be looked at.
WildcardText parse_wildcards(std::string_view prompt, std::string& fault);

}  // namespace easel
