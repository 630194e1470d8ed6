// The two encodings of PNG text chunks.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace easel::png {

// Strict: no overlong forms, no surrogates, nothing above U+10FFFF (Unicode 15, table 3-7).
bool is_utf8(std::string_view text);

// `text` (valid UTF-8) in ISO 8859-1; empty optional where a character is not in it. U+0080…U+009F are controls outside
// of ISO 8859-1, which PNG's tEXt leaves undefined.
std::optional<std::string> latin1_from_utf8(std::string_view text);

std::string utf8_from_latin1(std::string_view text);

}  // namespace easel::png
