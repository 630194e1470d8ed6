// Values of request fields from text and JSON, by the table.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "easel/pipeline.h"
#include "pipeline/picture_input.h"

namespace easel {

namespace {

// What was expected, as the end of a sentence.
std::string expectation(const RequestField& field) {
  if (!field.words.empty()) {
    std::string text = "expected ";
    for (std::size_t i = 0; i < field.words.size(); ++i)
      text += (i == 0 ? "" : i + 1 == field.words.size() ? " or " : ", ") + field.words[i];
    return text;
  }
  if (field.form == TextForm::kSize) return "expected a size in pixels, WIDTHxHEIGHT, as 1024x768";
  if (field.form == TextForm::kPoint) return "expected a place in pixels, LEFT,TOP, as 0,128";
  if (field.form == TextForm::kMargins)
    return "expected L,T,R,B in pixels or percent, not all 0, as 0,0,128,0 or 25%,0,25%,0";
  if (field.is_switch()) return "expected true or false";
  if (std::holds_alternative<std::optional<std::string> Request::*>(field.member)) return "expected a text";
  if (std::holds_alternative<std::optional<std::vector<std::string>> Request::*>(field.member))
    return "expected a text or a list of texts";
  if (std::holds_alternative<std::optional<double> Request::*>(field.member) || field.is_list())
    return "expected a number from " + plain(field.low) + " to " + plain(field.high);
  if (std::holds_alternative<std::optional<uint64_t> Request::*>(field.member))
    return "expected a whole number from 0 to 18446744073709551615";
  const std::string kind =
      field.multiple_of == 1 ? "a whole number" : "a multiple of " + std::to_string(field.multiple_of);
  return "expected " + kind + " from " + plain(field.low) + " to " + plain(field.high);
}

// The whole of `text` as a number of type T, else nullopt.
template <class T>
std::optional<T> parsed(std::string_view text) {
  T value{};
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::pair<int64_t, int64_t>> number_pair(std::string_view text, TextForm form) {
  constexpr int64_t kLargest = 65536;
  const std::size_t middle = text.find(form == TextForm::kSize ? 'x' : ',');
  if (form == TextForm::kAny || middle == std::string_view::npos) return std::nullopt;
  const auto first = parsed<int64_t>(text.substr(0, middle)), second = parsed<int64_t>(text.substr(middle + 1));
  const int64_t least = form == TextForm::kSize ? 1 : 0;
  if (!first || !second || std::min(*first, *second) < least || std::max(*first, *second) > kLargest)
    return std::nullopt;
  return std::pair(*first, *second);
}

namespace {

bool has_form(const std::string& text, TextForm form) {
  if (form == TextForm::kAny) return true;
  if (form != TextForm::kMargins) return number_pair(text, form).has_value();
  constexpr int kAnySide = 512;  // percents are of the picture's sides, which are not known here
  const auto margins = margins_of(text, kAnySide, kAnySide);
  return margins && margins->left + margins->top + margins->right + margins->bottom > 0;
}

// Sets one typed member; false where the value is not what the field expects.
struct Setter {
  Request& request;
  const RequestField& field;

  bool fits(const std::string& value) const {
    const auto& words = field.words;
    return (words.empty() || std::find(words.begin(), words.end(), value) != words.end()) &&
           has_form(value, field.form);
  }
  bool fits(double value) const { return value >= field.low && value <= field.high; }  // NaN fails as well

  bool operator()(std::optional<std::string> Request::*member, const std::string& value) const {
    if (!fits(value)) return false;
    request.*member = value;
    return true;
  }
  bool operator()(std::optional<int64_t> Request::*member, int64_t value) const {
    const auto wide = static_cast<double>(value);
    if (wide < field.low || wide > field.high || value % field.multiple_of != 0) return false;
    request.*member = value;
    return true;
  }
  bool operator()(std::optional<uint64_t> Request::*member, uint64_t value) const {
    request.*member = value;
    return true;
  }
  bool operator()(std::optional<double> Request::*member, double value) const {
    if (!fits(value)) return false;
    request.*member = value;
    return true;
  }
  bool operator()(std::optional<bool> Request::*member, bool value) const {
    request.*member = value;
    return true;
  }

  template <class T>
  bool from_text(std::optional<std::vector<T>> Request::*member, std::string_view text) const {
    std::optional<T> value;
    if constexpr (std::is_same_v<T, std::string>)
      value = std::string(text);
    else
      value = parsed<T>(text);
    if (!value || !fits(*value)) return false;
    auto& list = request.*member;
    if (!list) list.emplace();
    list->push_back(std::move(*value));
    return true;
  }

  template <class T>
  bool from_json(std::optional<std::vector<T>> Request::*member, const json& value) const {
    std::vector<T> list;
    for (const json& one : value.is_array() ? value : json::array({value})) {
      if (std::is_same_v<T, std::string> ? !one.is_string() : !one.is_number()) return false;
      list.push_back(one.get<T>());
      if (!fits(list.back())) return false;
    }
    request.*member = std::move(list);
    return true;
  }

  template <class T>
  bool from_text(std::optional<T> Request::*member, std::string_view text) const {
    if constexpr (std::is_same_v<T, std::string>) {
      return (*this)(member, std::string(text));
    } else if constexpr (std::is_same_v<T, bool>) {
      return (text == "true" || text == "false") && (*this)(member, text == "true");
    } else {
      const std::optional<T> value = parsed<T>(text);
      return value && (*this)(member, *value);
    }
  }

  template <class T>
  bool from_json(std::optional<T> Request::*member, const json& value) const {
    if constexpr (std::is_same_v<T, std::string>) {
      return value.is_string() && (*this)(member, value.get<std::string>());
    } else if constexpr (std::is_same_v<T, bool>) {
      return value.is_boolean() && (*this)(member, value.get<bool>());
    } else if constexpr (std::is_same_v<T, uint64_t>) {  // a seed above 2^53 is safer as text
      if (value.is_string()) return from_text(member, value.get_ref<const std::string&>());
      return value.is_number_unsigned() && (*this)(member, value.get<uint64_t>());
    } else if constexpr (std::is_same_v<T, int64_t>) {
      return value.is_number_integer() && value <= std::numeric_limits<int64_t>::max() &&
             (*this)(member, value.get<int64_t>());
    } else {
      return value.is_number() && (*this)(member, value.get<double>());
    }
  }
};

std::string hint_for(const RequestField& field, std::string_view text) {
  return field.name == "seed" && text.starts_with("-") ? "; leave -s out for a random seed" : "";
}

}  // namespace

void set_from_text(Request& request, const RequestField& field, std::string_view text, const std::string& spelled,
                   Faults& faults) {
  if (const auto at = invalid_utf8_at(text)) {
    faults.add(spelled + ": not valid UTF-8 at byte " + std::to_string(*at));
    return;
  }
  const Setter setter{request, field};
  const bool fits = std::visit([&](auto member) { return setter.from_text(member, text); }, field.member);
  if (!fits) faults.add(spelled + " " + shown(json(text)) + ": " + expectation(field) + hint_for(field, text));
}

void set_from_json(Request& request, const RequestField& field, const json& value, const std::string& spelled,
                   Faults& faults) {
  if (value.is_null()) {  // "not given"
    std::visit([&](auto member) { (request.*member).reset(); }, field.member);
    return;
  }
  const Setter setter{request, field};
  const bool fits = std::visit([&](auto member) { return setter.from_json(member, value); }, field.member);
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (!fits) faults.add(spelled + " " + shown(json(text)) + ": " + expectation(field) + hint_for(field, text));
}

nlohmann::ordered_json to_json(const Request& request) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const RequestField& field : request_fields()) {
    std::visit(
        [&](auto member) {
          if (request.*member) out[field.name] = *(request.*member);
        },
        field.member);
  }
  return out;
}

}  // namespace easel
