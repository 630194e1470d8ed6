#include "text/byte_level.h"

#include <array>

#include "text/unicode.h"

namespace easel::byte_level {

namespace {

struct Alphabet {
  std::array<std::string, 256> symbols;
  std::array<int, 0x144> bytes;  // by code point; -1: stands for no byte

  Alphabet() {
    bytes.fill(-1);
    // Printable Latin-1 stands for itself; the other 68 bytes follow from U+0100 on, in order.
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t c = printable ? static_cast<char32_t>(b) : next++;
      unicode::append_utf8(symbols[b], c);
      bytes[c] = b;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet table;
  return table;
}

}  // namespace

std::string_view symbol(unsigned char b) { return alphabet().symbols[b]; }

void append_bytes(std::string& out, std::string_view token) {
  const auto& bytes = alphabet().bytes;
  const std::size_t before = out.size();
  for (std::size_t at = 0; at < token.size();) {
    const auto step = unicode::utf8_step(token, at);
    const int b = step.c < bytes.size() ? bytes[step.c] : -1;
    if (b < 0) {
      out.resize(before);
      out += token;
      return;
    }
    out += static_cast<char>(b);
    at += step.length;
  }
}

}  // namespace easel::byte_level
