// GPT-2's byte alphabet (Radford et al. 2019, `bytes_to_unicode`): each of the 256 bytes is written
// as one printable character, so that vocab.json and merges.txt are plain text and no input is ever
// outside the vocabulary.
#pragma once

#include <string>
#include <string_view>

namespace easel::byte_level {

// The character that stands for byte `b`, in UTF-8.
std::string_view symbol(unsigned char b);
// Appends the bytes that `token` stands for; a token with any other character in it (one added by
// hand) stands for itself.
void append_bytes(std::string& out, std::string_view token);

}  // namespace easel::byte_level
