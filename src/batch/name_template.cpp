#include <algorithm>
#include <charconv>
#include <iomanip>
#include <sstream>

#include "easel/batch.h"

namespace easel {

namespace {

constexpr int kIndexDigits = 5;
constexpr int64_t kSlugLength = 40;
constexpr int64_t kLongestSlug = 200;

const std::vector<std::string>& known_fields() {
  static const std::vector<std::string> fields = {"index", "seed", "prompt", "sampler", "model"};
  return fields;
}

bool is_known(std::string_view field) {
  return std::find(known_fields().begin(), known_fields().end(), field) != known_fields().end();
}

std::string padded(int64_t index) {
  std::ostringstream out;
  out << std::setw(kIndexDigits) << std::setfill('0') << index;
  return out.str();
}

std::optional<int64_t> slug_length(std::string_view text) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const bool whole = error == std::errc() && stop == end;
  return whole && value >= 1 && value <= kLongestSlug ? std::optional(value) : std::nullopt;
}

}  // namespace

NameTemplate::NameTemplate(std::string_view text, const std::string& spelled, Faults& faults) {
  pieces_.emplace_back();
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '{') {
      pieces_.back().literal += text[at++];
      continue;
    }
    const std::size_t end = text.find('}', at);
    if (end == std::string_view::npos) {
      faults.add(spelled + " '" + std::string(text) + "': the brace at byte " + std::to_string(at) + " is not closed");
      return;
    }
    add_field(text.substr(at + 1, end - at - 1), spelled, faults);
    pieces_.emplace_back();
    at = end + 1;
  }
}

void NameTemplate::add_field(std::string_view content, const std::string& spelled, Faults& faults) {
  const std::string written = spelled + ": {" + std::string(content) + "}";
  const std::size_t colon = content.find(':');
  Piece& piece = pieces_.back();
  piece.field = content.substr(0, colon);
  piece.limit = kSlugLength;
  if (!is_known(piece.field)) {
    faults.add(written + " is no field of a name; known: {index}, {seed}, {prompt:40}, {sampler}, {model}");
  } else if (colon != std::string_view::npos) {
    const auto limit = slug_length(content.substr(colon + 1));
    if (piece.field != "prompt") {
      faults.add(written + ": only {prompt:N} takes a length");
    } else if (!limit) {
      faults.add(written + ": expected a length from 1 to " + std::to_string(kLongestSlug));
    }
    piece.limit = limit.value_or(kSlugLength);
  }
}

std::string NameTemplate::operator()(const NameFacts& facts) const {
  std::string name;
  for (const Piece& piece : pieces_) {
    name += piece.literal;
    if (piece.field == "index") name += padded(facts.index);
    if (piece.field == "seed") name += std::to_string(facts.seed);
    if (piece.field == "prompt") name += slug(facts.prompt, piece.limit);
    if (piece.field == "sampler") name += facts.sampler;
    if (piece.field == "model") name += facts.model;
  }
  return name;
}

bool NameTemplate::has(std::string_view field) const {
  return std::any_of(pieces_.begin(), pieces_.end(), [&](const Piece& piece) { return piece.field == field; });
}

}  // namespace easel
