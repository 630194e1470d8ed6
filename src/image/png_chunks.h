// The container of a PNG file: a signature, then chunks of {length, type, data, CRC} (PNG 1.2, section 3).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace easel::png {

inline constexpr std::string_view kSignature{"\x89PNG\r\n\x1a\n", 8};
inline constexpr std::size_t kHeaderEnd = 8 + 4 + 4 + 13 + 4;  // signature and IHDR: where other chunks may begin

struct Chunk {
  std::string_view type;  // four letters
  std::string_view data;
};

uint32_t read_big_endian(std::string_view four_bytes);

void append_chunk(std::string& out, std::string_view type, std::string_view data);

// The whole file. Throws Error(kFile) if it cannot be read, does not begin as a PNG or has 2 GiB or more.
std::string read_png_bytes(const std::filesystem::path& file);

// The chunks from IHDR to IEND, every length and CRC checked; they view `bytes`. What follows IEND is ignored. Throws
// Error(kFile).
std::vector<Chunk> chunks_of(std::string_view bytes, const std::filesystem::path& file);

// Throws Error(kFile): "FILE: not a readable PNG: FAULT".
[[noreturn]] void fail(const std::filesystem::path& file, const std::string& fault);

}  // namespace easel::png
