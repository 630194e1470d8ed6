// A line of JSON from somebody else.
#pragma once

#include "easel/tensor.h"

namespace easel {

// The object on the line. Refused, with the reason in `fault`: what is no JSON or no object, a key given twice, more
// than eight levels (json's dump() is recursive: a line of brackets would end the program), texts with NUL.
std::optional<json> json_object(std::string_view line, std::string& fault);

// `text` cut to `limit` bytes between characters, with "..." where it was.
std::string cut_short(std::string_view text, std::size_t limit);

}  // namespace easel
