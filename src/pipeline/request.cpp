// The table of request fields, and values from text and JSON by it.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "easel/pipeline.h"

namespace easel {

const std::vector<RequestField>& request_fields() {
  constexpr double kWholeSeed = 18446744073709551615.0;  // 2^64 − 1, checked as an integer
  static const std::vector<RequestField> fields = {
      {.name = "prompt",
       .flags = "-p,--prompt",
       .member = &Request::prompt,
       .value_name = "TEXT",
       .help = "what to draw; repeatable; '-' reads all of standard input as one prompt"},
      {.name = "negative_prompt",
       .flags = "-n,--negative-prompt",
       .member = &Request::negative_prompt,
       .value_name = "TEXT",
       .help = "what to keep away from"},
      {.name = "width",
       .flags = "-W,--width",
       .member = &Request::width,
       .low = 8,
       .high = 16384,
       .multiple_of = 8,
       .value_name = "PIXELS",
       .help = "a multiple of 8 (default: the model's own size)"},
      {.name = "height",
       .flags = "-H,--height",
       .member = &Request::height,
       .low = 8,
       .high = 16384,
       .multiple_of = 8,
       .value_name = "PIXELS",
       .help = "a multiple of 8 (default: the model's own size)"},
      {.name = "seed",
       .flags = "-s,--seed",
       .member = &Request::seed,
       .low = 0,
       .high = kWholeSeed,
       .value_name = "N",
       .help = "0 to 2^64-1, of which the noise sees the low 32 bits (default: random below 2^32, printed)"},
      {.name = "steps",
       .flags = "--steps",
       .aliases = {"num_inference_steps"},
       .member = &Request::steps,
       .low = 1,
       .high = 1000,
       .value_name = "N",
       .help = "sampling steps (default: the model's own, else 20)"},
      {.name = "cfg_scale",
       .flags = "--cfg-scale,--guidance-scale,--scale",
       .aliases = {"guidance_scale", "scale"},
       .member = &Request::cfg_scale,
       .low = 0,
       .high = 1000,
       .value_name = "X",
       .help = "classifier-free guidance; 1 and less turns it off (default: the model's own, else 7.5)"},
      {.name = "sampler",
       .flags = "--sampler,--sampling-method",
       .aliases = {"sampling_method"},
       .member = &Request::sampler,
       .value_name = "NAME",
       .help = "see 'easel samplers'; any known spelling (default: the checkpoint's own)"},
      {.name = "eta",
       .flags = "--eta",
       .member = &Request::eta,
       .low = 0,
       .high = 1,
       .value_name = "X",
       .help = "share of fresh noise in each step of samplers that have it, 0 to 1 (default: 0)"},
      {.name = "prediction",
       .flags = "--prediction",
       .member = &Request::prediction,
       .words = {"eps", "v", "x0"},
       .value_name = "eps|v|x0",
       .help = "what the network predicts (default: what the checkpoint says)"},
      {.name = "clip_skip",
       .flags = "--clip-skip",
       .member = &Request::clip_skip,
       .low = 1,
       .high = 100,
       .value_name = "K",
       .help = "use the K-th layer from the end of the text encoder (default: 1, the last)"},
      {.name = "model",
       .flags = "-m,--model,--ckpt",
       .aliases = {"ckpt"},
       .member = &Request::model,
       .value_name = "PATH",
       .help = "diffusers folder or single .safetensors file (default: $EASEL_MODEL, else the bundled model)"},
      {.name = "device",
       .flags = "--device",
       .member = &Request::device,
       .value_name = "auto|cpu|cuda[:N]",
       .help = "where to compute (default: auto, CUDA where there is one)"},
      {.name = "dtype",
       .flags = "--dtype",
       .member = &Request::dtype,
       .words = {"auto", "f32", "f16", "bf16"},
       .value_name = "auto|f32|f16|bf16",
       .help = "precision of the networks (default: auto; f32 is the one that equals diffusers')"},
      {.name = "prompt_syntax",
       .flags = "",  // only raw exists: stored with the picture, no flag yet
       .member = &Request::prompt_syntax,
       .words = {"raw"},
       .value_name = "raw",
       .help = "how the prompt is read"},
  };
  return fields;
}

const RequestField* find_request_field(std::string_view name) {
  for (const RequestField& field : request_fields()) {
    if (field.name == name || std::find(field.aliases.begin(), field.aliases.end(), name) != field.aliases.end())
      return &field;
  }
  return nullptr;
}

namespace {

// What was expected, as the end of a sentence.
std::string expectation(const RequestField& field) {
  if (!field.words.empty()) {
    std::string text = "expected ";
    for (std::size_t i = 0; i < field.words.size(); ++i)
      text += (i == 0 ? "" : i + 1 == field.words.size() ? " or " : ", ") + field.words[i];
    return text;
  }
  if (std::holds_alternative<std::optional<double> Request::*>(field.member))
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

// Sets one typed member; false where the value is not what the field expects.
struct Setter {
  Request& request;
  const RequestField& field;

  bool operator()(std::optional<std::string> Request::*member, const std::string& value) const {
    const bool allowed =
        field.words.empty() || std::find(field.words.begin(), field.words.end(), value) != field.words.end();
    if (allowed) request.*member = value;
    return allowed;
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
    if (!(value >= field.low && value <= field.high)) return false;  // NaN fails as well
    request.*member = value;
    return true;
  }

  template <class T>
  bool from_text(std::optional<T> Request::*member, std::string_view text) const {
    if constexpr (std::is_same_v<T, std::string>) {
      return (*this)(member, std::string(text));
    } else {
      const std::optional<T> value = parsed<T>(text);
      return value && (*this)(member, *value);
    }
  }

  template <class T>
  bool from_json(std::optional<T> Request::*member, const json& value) const {
    if constexpr (std::is_same_v<T, std::string>) {
      return value.is_string() && (*this)(member, value.get<std::string>());
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
