// Unicode as CLIP's tokenizer needs it: UTF-8, NFC, lower case, and the classes \p{L}, \p{N}, \s.
//
// Categories, compositions and case pairs come from utf8proc (2.8: Unicode 15.0). Hugging Face's
// tokenizers 0.23 mixes its own sources (classes of Unicode 16, case pairs of Unicode 17), so
// characters assigned after Unicode 15 may be cut differently; none is in CLIP's vocabulary other
// than as single bytes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace easel::unicode {

struct Utf8Step {
  char32_t c;          // U+FFFD if not valid
  std::size_t length;  // bytes; of an invalid sequence its maximal subpart (Unicode 15,
                       // section 3.9, U+FFFD substitution)
  bool valid;
};

// The character that starts at text[at]; at < text.size().
Utf8Step utf8_step(std::string_view text, std::size_t at);
void append_utf8(std::string& out, char32_t c);
// `bytes` with each maximal invalid subpart replaced by U+FFFD, as Rust's String::from_utf8_lossy.
std::string utf8_lossy(std::string_view bytes);

bool is_letter(char32_t c);  // \p{L}
bool is_number(char32_t c);  // \p{N}
bool is_space(char32_t c);   // \s, the property White_Space: not U+001C…U+001F, U+180E or U+200B

// Canonical composition by the tables of Unicode 9, which are the reference's. Throws
// Error(kInternal) if `text` is not valid UTF-8.
std::string nfc(std::string_view text);
// The lower case of one character, as Rust's char::to_lowercase: without context, so a final
// capital sigma gives σ.
void append_lower(std::string& out, char32_t c);

}  // namespace easel::unicode
