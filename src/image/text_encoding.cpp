#include "image/text_encoding.h"

#include <cstdint>

namespace easel::png {

namespace {

uint8_t byte_at(std::string_view text, std::size_t at) { return static_cast<uint8_t>(text[at]); }

// The length of the well-formed sequence at text[at]; 0 where there is none. Unicode 15, table 3-7: only the second
// byte's range depends on the first.
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const uint8_t lead = byte_at(text, at);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                             : (lead & 0xF0) == 0xE0        ? 3
                             : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                            : 0;
  if (length == 0 || text.size() - at < length) return 0;
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte_at(text, at + 1) < low || byte_at(text, at + 1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte_at(text, at + i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = sequence_length(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

std::optional<std::string> latin1_from_utf8(std::string_view text) {
  std::string latin1;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const uint8_t lead = byte_at(text, at);
    if (lead < 0x80) {
      latin1 += text[at];
      continue;
    }
    if (lead != 0xC2 && lead != 0xC3) return std::nullopt;  // U+0100 and above
    const int code = (lead & 0x03) << 6 | (byte_at(text, ++at) & 0x3F);
    if (code < 0xA0) return std::nullopt;
    latin1 += static_cast<char>(code);
  }
  return latin1;
}

std::string utf8_from_latin1(std::string_view text) {
  std::string utf8;
  for (const char c : text) {
    const uint8_t code = static_cast<uint8_t>(c);
    if (code >= 0x80) utf8 += static_cast<char>(0xC0 | code >> 6);
    utf8 += static_cast<char>(code < 0x80 ? code : 0x80 | (code & 0x3F));
  }
  return utf8;
}

}  // namespace easel::png
