#include "batch/json_line.h"

#include <set>

namespace easel {

namespace {

constexpr int kDeepest = 8;

// "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error …" → "at column 9: syntax error …".
std::string reason_of(const json::exception& error) {
  const std::string_view what = error.what();
  const std::size_t column = what.find("column "), bracket = what.find("] ");
  if (column != std::string_view::npos) return "at " + cut_short(what.substr(column), 160);
  return cut_short(what.substr(bracket == std::string_view::npos ? 0 : bracket + 2), 160);
}

}  // namespace

std::string cut_short(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return std::string(text);
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;
  return std::string(text.substr(0, limit)) + "...";
}

std::optional<json> json_object(std::string_view line, std::string& fault) {
  std::vector<std::set<std::string, std::less<>>> keys(kDeepest + 2);  // by depth
  const auto look = [&](int depth, json::parse_event_t event, json& value) {
    const bool begins = event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (begins && depth >= kDeepest) {
      fault = "its JSON is nested deeper than " + std::to_string(kDeepest) + " levels";
      return false;
    }
    const bool is_text =
        event == json::parse_event_t::key || (event == json::parse_event_t::value && value.is_string());
    if (is_text && value.get_ref<const std::string&>().find('\0') != std::string::npos) fault = "a text holds a NUL";
    if (event == json::parse_event_t::object_start) keys[depth + 1].clear();
    if (event == json::parse_event_t::key && depth <= kDeepest &&
        !keys[depth].insert(value.get_ref<const std::string&>()).second)
      fault = "\"" + cut_short(value.get_ref<const std::string&>(), 60) + "\" is given twice";
    return true;
  };
  try {
    json value = json::parse(line, look);
    if (!fault.empty()) return std::nullopt;
    if (value.is_object()) return value;
    fault = "not a JSON object";
  } catch (const json::exception& error) {
    fault = "not valid JSON " + reason_of(error);
  }
  return std::nullopt;
}

}  // namespace easel
