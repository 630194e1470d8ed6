// Reading a tokenizer folder's files, and the words of its faults.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "easel/core.h"
#include "easel/tensor.h"

namespace easel {

// Throws Error(kFile): "FILE: PLACE: FAULT".
[[noreturn]] void fail(const std::filesystem::path& file, const std::string& place, const std::string& fault);

std::string in_quotes(std::string_view text);  // cut at 60 bytes

// A JSON value for a message, or of an array or object its type; the parser has refused invalid UTF-8.
std::string value_or_type(const json& value);

// Throw Error(kFile).
std::string read_text(const std::filesystem::path& file);
json read_json_object(const std::filesystem::path& file);

bool is_there(const std::filesystem::path& file);

}  // namespace easel
