#include "text/tokenizer_reading.h"

#include <fstream>

namespace easel {

namespace fs = std::filesystem;

void fail(const fs::path& file, const std::string& place, const std::string& fault) {
  throw Error(ErrorKind::kFile, file.string() + (place.empty() ? "" : ": " + place) + ": " + fault,
              "get the checkpoint's tokenizer folder again");
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 60;
  return text.size() <= kShown ? "\"" + std::string(text) + "\"" : "\"" + std::string(text.substr(0, kShown)) + "…\"";
}

std::string value_or_type(const json& value) {
  return value.is_structured() ? std::string("an ") + value.type_name() : value.dump();
}

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) fail(file, "", "cannot be opened");
  std::string text;
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  do {
    const std::size_t before = text.size();
    text.resize(before + kChunk);
    in.read(text.data() + before, kChunk);
    text.resize(before + static_cast<std::size_t>(in.gcount()));
  } while (in);
  if (in.bad()) fail(file, "", "cannot be read");
  return text;
}

bool is_there(const fs::path& file) {
  std::error_code ignored;  // a folder that may not be searched counts as empty
  return fs::exists(file, ignored);
}

json read_json_object(const fs::path& file) {
  json value;
  try {
    value = json::parse(read_text(file));
  } catch (const json::exception& e) {
    fail(file, "", std::string("not JSON: ") + e.what());
  }
  if (!value.is_object()) fail(file, "", "expected a JSON object, got " + value_or_type(value));
  return value;
}

}  // namespace easel
