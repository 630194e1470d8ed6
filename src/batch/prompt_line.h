// The grammar of prompt lines: text, then flags.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace easel {

struct PromptFlag {
  std::string name;                  // without the dashes
  std::optional<std::string> value;  // unset: nothing stood there; "" was written ""
};

struct PromptLine {
  std::optional<std::string> text;  // unset: the line begins with a flag
  std::vector<PromptFlag> flags;
  std::string fault;  // a quote that is not closed
};

// `line` is not blank.
PromptLine split_prompt_line(std::string_view line);

}  // namespace easel
