#include "image/png_chunks.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <system_error>

#include "easel/core.h"
#include "image/descriptor.h"

namespace easel::png {

namespace {

namespace fs = std::filesystem;

constexpr uint32_t kMaxLength = 0x7FFFFFFF;  // of a chunk's data, PNG 1.2, section 3.2

// PNG 1.2, appendix: the CRC of ISO 3309 over type and data.
constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t n = 0; n < 256; ++n) {
    uint32_t c = n;
    for (int bit = 0; bit < 8; ++bit) c = c & 1 ? 0xEDB88320 ^ c >> 1 : c >> 1;
    table[n] = c;
  }
  return table;
}();

uint32_t crc32(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) crc = kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF] ^ crc >> 8;
  return ~crc;
}

void append_big_endian(std::string& out, uint32_t value) {
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(value >> shift & 0xFF);
}

bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

// The chunk that begins at bytes[at].
Chunk chunk_at(std::string_view bytes, std::size_t at, const fs::path& file) {
  const std::string place = "at byte " + std::to_string(at);
  const std::size_t left = bytes.size() - at;
  if (left < 12) fail(file, "it is cut off " + place + ", before the end chunk (IEND)");
  const uint32_t length = read_big_endian(bytes.substr(at, 4));
  const std::string_view type = bytes.substr(at + 4, 4);
  if (!std::all_of(type.begin(), type.end(), is_letter)) fail(file, "no chunk begins " + place);
  const std::string name = std::string(type) + " chunk " + place;
  if (length > kMaxLength) fail(file, name + ": its length " + std::to_string(length) + " is above 2^31 - 1");
  if (length > left - 12) {
    fail(file, name + ": its length is " + std::to_string(length) + " bytes, the file ends after " +
                   std::to_string(left - 12));
  }
  if (crc32(bytes.substr(at + 4, 4 + std::size_t{length})) != read_big_endian(bytes.substr(at + 8 + length, 4))) {
    fail(file, name + ": its check sum (CRC) is wrong");
  }
  return {type, bytes.substr(at + 8, length)};
}

}  // namespace

void fail(const fs::path& file, const std::string& fault) {
  throw Error(ErrorKind::kFile, file.string() + ": not a readable PNG: " + fault, "copy or download the file again");
}

uint32_t read_big_endian(std::string_view four_bytes) {
  uint32_t value = 0;
  for (const char c : four_bytes.substr(0, 4)) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

void append_chunk(std::string& out, std::string_view type, std::string_view data) {
  if (data.size() > kMaxLength) {
    throw Error(ErrorKind::kUsage, std::string(type) + " chunk: a PNG holds no " + std::to_string(data.size()) +
                                       " bytes in one chunk (2^31 - 1 at most)");
  }
  append_big_endian(out, static_cast<uint32_t>(data.size()));
  const std::size_t start = out.size();
  out.append(type).append(data);
  append_big_endian(out, crc32(std::string_view(out).substr(start)));
}

std::string read_png_bytes(const fs::path& file) {
  const auto give_up = [&file] {
    const int error = errno;
    throw Error(ErrorKind::kFile, file.string() + ": cannot be read: " + std::generic_category().message(error));
  };
  const Descriptor in(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!in) give_up();
  constexpr std::size_t kPart = std::size_t{1} << 20;
  std::string bytes;
  for (;;) {
    const std::size_t before = bytes.size();
    bytes.resize(before + kPart);
    const ssize_t got = ::read(in.get(), bytes.data() + before, kPart);
    if (got < 0 && errno != EINTR) give_up();
    if (got < 0) check_interrupted();
    bytes.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    // Before the rest is read: the file may be a checkpoint of gigabytes or /dev/zero.
    const std::size_t begun = std::min(bytes.size(), kSignature.size());
    if (std::string_view(bytes).substr(0, begun) != kSignature.substr(0, begun)) fail(file, "it does not begin as one");
    if (bytes.size() > std::numeric_limits<int>::max()) fail(file, "files of 2 GiB and more are not read");
    if (got == 0) break;
  }
  if (bytes.empty()) fail(file, "the file is empty");
  return bytes;
}

std::vector<Chunk> chunks_of(std::string_view bytes, const fs::path& file) {
  if (!bytes.starts_with(kSignature)) fail(file, "it does not begin as one");
  std::vector<Chunk> chunks;
  std::size_t at = kSignature.size();
  do {
    chunks.push_back(chunk_at(bytes, at, file));
    at += 12 + chunks.back().data.size();
    const bool is_header = chunks.back().type == "IHDR";
    if (is_header != (chunks.size() == 1)) fail(file, "it must have one header chunk (IHDR), and that first");
  } while (chunks.back().type != "IEND");
  if (chunks.front().data.size() != 13) fail(file, "its header chunk (IHDR) must have 13 bytes");
  return chunks;
}

}  // namespace easel::png
