// <lora:name:w>: the reference is extra_networks.py and extra_networks_lora.py of AUTOMATIC1111's web UI.
#include <charconv>
#include <cmath>

#include "easel/core.h"
#include "easel/prompt.h"

namespace easel {

namespace {

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

std::optional<double> number_of(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

struct Tag {
  std::string_view whole, kind, content;
};

// The tag that begins at `at`, where there is one.
std::optional<Tag> tag_at(std::string_view text, std::size_t at) {
  std::size_t colon = at + 1;
  while (colon < text.size() && is_word(text[colon])) ++colon;
  if (colon == at + 1 || colon >= text.size() || text[colon] != ':') return std::nullopt;
  const std::size_t end = text.find('>', colon);
  if (end == std::string_view::npos || end == colon + 1) return std::nullopt;
  return Tag{text.substr(at, end + 1 - at), text.substr(at + 1, colon - at - 1),
             text.substr(colon + 1, end - colon - 1)};
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (std::size_t end; (end = text.find(at)) != std::string_view::npos; text.remove_prefix(end + 1))
    parts.push_back(text.substr(0, end));
  parts.push_back(text);
  return parts;
}

void read_lora(const Tag& tag, TaggedPrompt& out) {
  const std::string where = std::string(tag.whole) + ": ";
  LoraTag lora;
  std::vector<double> positional;
  std::optional<double> text_encoder, unet;
  const std::vector<std::string_view> parts = split(tag.content, ':');
  lora.name = parts.front();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::size_t equals = parts[i].find('=');
    const bool is_named = equals != std::string_view::npos;
    const std::string_view name = is_named ? parts[i].substr(0, equals) : "";
    const auto value = number_of(is_named ? parts[i].substr(equals + 1) : parts[i]);
    if (is_named && name != "te" && name != "unet") {
      out.faults.push_back(where + "unknown " + std::string(name) + "=, expected te= or unet=");
    } else if (!value || std::abs(*value) > 100) {
      out.faults.push_back(where + "'" + std::string(parts[i]) + "' is no strength, expected a number as 0.7");
    } else if (!is_named) {
      positional.push_back(*value);
    } else {
      (name == "te" ? text_encoder : unet) = value;
    }
  }
  if (positional.size() > 2) out.faults.push_back(where + "more than two strengths, text encoder's and U-Net's");
  if (lora.name.empty()) out.faults.push_back(where + "it names no file");
  lora.text_encoder = text_encoder.value_or(positional.empty() ? 1 : positional[0]);
  // The reference takes the positional text strength for both, whatever te= says after it.
  lora.unet = unet.value_or(positional.size() > 1 ? positional[1] : lora.text_encoder);
  out.loras.push_back(std::move(lora));
}

}  // namespace

TaggedPrompt without_tags(std::string_view prompt) {
  TaggedPrompt out;
  for (std::size_t at = 0; at < prompt.size();) {
    const auto tag = prompt[at] == '<' ? tag_at(prompt, at) : std::nullopt;
    const bool is_lora = tag && (tag->kind == "lora" || tag->kind == "lyco");
    if (is_lora) read_lora(*tag, out);
    if (tag && tag->kind == "hypernet")
      out.faults.push_back(std::string(tag->whole) + ": hypernetworks are not supported");
    if (is_lora || (tag && tag->kind == "hypernet")) {
      at += tag->whole.size();
    } else {
      out.text += prompt[at++];
    }
  }
  return out;
}

}  // namespace easel
