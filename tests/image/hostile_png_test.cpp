// Broken and hostile PNGs: an Error(kFile) that names the file and the reason, never a crash, never gigabytes.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <functional>

#include "easel/image.h"
#include "image/png_chunks.h"
#include "image/scratch.h"

namespace easel {
namespace {

using namespace std::string_literals;
using testing::Scratch;
using testing::write_bytes;

// A zlib stream of `data`, stored (RFC 1950 and 1951: no compression).
std::string stored_zlib(const std::string& data) {
  std::string out = "\x78\x01";
  for (std::size_t at = 0; at == 0 || at < data.size();) {
    const std::size_t length = std::min<std::size_t>(data.size() - at, 0xFFFF);
    out += at + length == data.size() ? '\x01' : '\0';
    for (const std::size_t word : {length, ~length}) out += {static_cast<char>(word), static_cast<char>(word >> 8)};
    out += data.substr(at, length);
    at += std::max<std::size_t>(length, 1);
  }
  uint32_t a = 1, b = 0;
  for (const char c : data) {
    a = (a + static_cast<uint8_t>(c)) % 65521;
    b = (b + a) % 65521;
  }
  for (const uint32_t value : {b >> 8, b, a >> 8, a}) out += static_cast<char>(value);
  return out;
}

std::string big_endian(uint32_t value) {
  std::string bytes;
  for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(value >> shift);
  return bytes;
}

std::string header(uint32_t width, uint32_t height, char depth = 8, char colour = 2) {
  return big_endian(width) + big_endian(height) + std::string{depth, colour, 0, 0, 0};
}

// A PNG of these chunks and IEND; the default picture is one black pixel.
const std::string kHeader = header(1, 1);
const std::string kPixel = stored_zlib(std::string(4, '\0'));
using Chunks = std::vector<std::pair<std::string, std::string>>;

std::string png_of(const Chunks& chunks, bool ended = true) {
  std::string bytes(png::kSignature);
  for (const auto& [type, data] : chunks) png::append_chunk(bytes, type, data);
  if (ended) png::append_chunk(bytes, "IEND", "");
  return bytes;
}

std::string with_text(const std::string& type, const std::string& data) {
  return png_of({{"IHDR", kHeader}, {type, data}, {"IDAT", kPixel}});
}

// A chunk whose stated length is `length`, whatever follows.
std::string with_length(uint32_t length) {
  return png_of({{"IHDR", kHeader}}, false) + big_endian(length) + "tEXtkey" + std::string(40, '\0');
}

const std::string kWhole = png_of({{"IHDR", kHeader}, {"tEXt", "key\0value"s}, {"IDAT", kPixel}});

std::string fault_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFile) << error.what();
    EXPECT_FALSE(error.hint().empty() && std::string(error.what()).find("not a readable PNG") != std::string::npos);
    return error.what();
  }
  return "no error";
}

struct Row {
  std::string name;
  std::string bytes;
  std::string reason;
};

void expect_refused(const std::vector<Row>& rows, const std::function<void(const std::filesystem::path&)>& read) {
  const Scratch folder;
  for (const Row& row : rows) {
    const auto file = write_bytes(folder / "hostile.png", row.bytes);
    const std::string fault = fault_of([&] { read(file); });
    EXPECT_TRUE(fault.starts_with(file.string() + ": not a readable PNG: ")) << row.name << ": " << fault;
    EXPECT_NE(fault.find(row.reason), std::string::npos) << row.name << ": " << fault;
  }
}

void read_both(const std::filesystem::path& file) {
  EXPECT_THROW(read_png(file), Error);
  read_png_texts(file);
}

TEST(HostilePng, TheWholeOneIsInOrder) {
  const Scratch folder;
  const auto file = write_bytes(folder / "a.png", kWhole);
  EXPECT_EQ(read_png(file).pixels, (std::vector<uint8_t>{0, 0, 0}));
  EXPECT_EQ(read_png_texts(file).size(), 1u);
}

TEST(HostilePng, Container) {
  expect_refused(
      {
          {"empty", "", "the file is empty"},
          {"cut in the signature", kWhole.substr(0, 5), "does not begin as one"},
          {"signature only", kWhole.substr(0, 8), "is cut off at byte 8"},
          {"a JPEG", "\xFF\xD8\xFF\xE0 JFIF", "does not begin as one"},
          {"sent as text: CR LF to LF", "\x89PNG\n\x1a\n" + kWhole.substr(8), "does not begin as one"},
          {"no end chunk", png_of({{"IHDR", kHeader}, {"IDAT", kPixel}}, false), "before the end chunk (IEND)"},
          {"length 2^32 - 1", with_length(0xFFFFFFFF),
           "tEXt chunk at byte 33: its length 4294967295 is above 2^31 - 1"},
          {"length 2^31", with_length(0x80000000), "is above 2^31 - 1"},
          {"length 2^31 - 1", with_length(0x7FFFFFFF), "its length is 2147483647 bytes, the file ends after 39"},
          {"one too long", with_length(40), "the file ends after 39"},
          {"wrong check sum", std::string(kWhole).replace(45, 1, "V"),
           "tEXt chunk at byte 33: its check sum (CRC) is wrong"},
          {"type not letters", png_of({{"IHDR", kHeader}, {"\x1b[2J", ""}, {"IDAT", kPixel}}),
           "no chunk begins at byte 33"},
          {"no header", png_of({{"IDAT", kPixel}}), "one header chunk (IHDR)"},
          {"header second", png_of({{"tEXt", "k\0v"s}, {"IHDR", kHeader}}), "one header chunk (IHDR)"},
          {"two headers", png_of({{"IHDR", kHeader}, {"IHDR", kHeader}, {"IDAT", kPixel}}), "one header chunk (IHDR)"},
          {"Apple's variant", png_of({{"CgBI", "abcd"}, {"IHDR", kHeader}, {"IDAT", kPixel}}),
           "one header chunk (IHDR)"},
          {"short header", png_of({{"IHDR", kHeader.substr(0, 12)}, {"IDAT", kPixel}}), "must have 13 bytes"},
          {"empty header", png_of({{"IHDR", ""}}), "must have 13 bytes"},
      },
      read_both);
}

TEST(HostilePng, EveryCutAndEveryChangedByteIsSeen) {
  const Scratch folder;
  for (std::size_t i = 0; i < kWhole.size(); ++i) {
    const auto cut = write_bytes(folder / "cut.png", kWhole.substr(0, i));
    EXPECT_NE(fault_of([&] { read_both(cut); }), "no error") << "cut at " << i;
    std::string changed = kWhole;
    changed[i] = static_cast<char>(changed[i] ^ 0x20);
    const auto file = write_bytes(folder / "changed.png", changed);
    EXPECT_NE(fault_of([&] { read_both(file); }), "no error") << "changed at " << i;
  }
}

TEST(HostilePng, Texts) {
  expect_refused(
      {
          {"no NUL", with_text("tEXt", "keyword"), "tEXt chunk: a field has no end (NUL)"},
          {"empty", with_text("tEXt", ""), "a field has no end"},
          {"empty keyword", with_text("tEXt", "\0text"s), "its keyword is none"},
          {"long keyword", with_text("tEXt", std::string(80, 'k') + "\0v"s), "its keyword is none"},
          {"keyword begins with a space", with_text("tEXt", " k\0v"s), "its keyword is none"},
          {"control in the keyword", with_text("tEXt", "\x1b[2J\0v"s), "its keyword is none"},
          {"NUL in the text", with_text("tEXt", "key\0a\0b"s), "tEXt chunk \"key\": a NUL in its text"},
          {"compressed", with_text("zTXt", "Größe\0\0abc"s), "keyword is none"},  // UTF-8 in place of Latin-1
          {"compressed", with_text("zTXt", "parameters\0\0abc"s),
           "zTXt chunk \"parameters\": compressed text is not read"},
          {"compressed international", with_text("iTXt", "easel\0\1\0\0\0abc"s),
           "iTXt chunk \"easel\": compressed text is not read"},
          {"too short", with_text("iTXt", "easel\0\0"s), "iTXt chunk \"easel\": it is too short"},
          {"language without end", with_text("iTXt", "easel\0\0\0en"s), "its language: a field has no end"},
          {"translation without end", with_text("iTXt", "easel\0\0\0en\0x"s), "its translated keyword: a field"},
          {"NUL in the international text", with_text("iTXt", "easel\0\0\0\0\0a\0b"s), "\"easel\": a NUL in its text"},
          {"not UTF-8", with_text("iTXt", "easel\0\0\0\0\0\xED\xA0\x80"s), "its text is not valid UTF-8"},
      },
      [](const std::filesystem::path& file) { read_png_texts(file); });
}

TEST(HostilePng, Pixels) {
  const std::string row_2x2 = stored_zlib(std::string(7, '\0'));
  expect_refused(
      {
          {"width 0", png_of({{"IHDR", header(0, 1)}, {"IDAT", kPixel}}), "its size is 0x1, expected 1 to 16384"},
          {"height 0", png_of({{"IHDR", header(1, 0)}, {"IDAT", kPixel}}), "its size is 1x0"},
          {"too wide", png_of({{"IHDR", header(16385, 1)}, {"IDAT", kPixel}}), "its size is 16385x1"},
          {"2^31 - 1 high", png_of({{"IHDR", header(1, 0x7FFFFFFF)}, {"IDAT", kPixel}}), "its size is 1x2147483647"},
          {"2^32 - 1 a side", png_of({{"IHDR", header(~0u, ~0u)}, {"IDAT", kPixel}}),
           "its size is 4294967295x4294967295"},
          {"3 bits", png_of({{"IHDR", header(1, 1, 3)}, {"IDAT", kPixel}}), ""},
          {"colour type 5", png_of({{"IHDR", header(1, 1, 8, 5)}, {"IDAT", kPixel}}), ""},
          {"no pixels", png_of({{"IHDR", kHeader}}), "it has no pixel data (IDAT)"},
          {"palette missing", png_of({{"IHDR", header(1, 1, 8, 3)}, {"IDAT", stored_zlib(std::string(2, '\0'))}}), ""},
          {"not zlib", png_of({{"IHDR", kHeader}, {"IDAT", "pixels"}}), ""},
          {"empty pixels", png_of({{"IHDR", kHeader}, {"IDAT", ""}}), "it has no pixel data (IDAT)"},
          {"zlib cut", png_of({{"IHDR", kHeader}, {"IDAT", kPixel.substr(0, 4)}}), ""},
          {"too few rows", png_of({{"IHDR", header(2, 2)}, {"IDAT", row_2x2}}), ""},
          {"unknown filter", png_of({{"IHDR", kHeader}, {"IDAT", stored_zlib("\7" + std::string(3, '\0'))}}), ""},
          {"unknown critical chunk", png_of({{"IHDR", kHeader}, {"ABCD", ""}, {"IDAT", kPixel}}), "ABCD"},
      },
      [](const std::filesystem::path& file) { read_png(file); });
}

int64_t peak_kilobytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// One pixel whose stream unpacks to 1 GB. 258 zeros a code of 2 bits: the fixed trees' length 258 (11000101) and
// distance 1 (00000), 13 bits, written as RFC 1951 packs them.
TEST(HostilePng, AStreamThatUnpacksToGigabytesIsStoppedEarly) {
  std::string stream = "\x78\x01";
  uint32_t bits = 0;
  int held = 0;
  const auto push = [&](uint32_t value, int count) {
    bits |= value << held;
    for (held += count; held >= 8; held -= 8, bits >>= 8) stream += static_cast<char>(bits & 0xFF);
  };
  push(1, 1);                                                // the last block
  push(1, 2);                                                // with the fixed trees
  push(0x0C, 8);                                             // literal 0: 00110000, most significant bit first
  for (int i = 0; i < 4'000'000; ++i) push(0b10100011, 13);  // 11000101 reversed, then 00000
  push(0, 16);
  const Scratch folder;
  const auto file = write_bytes(folder / "bomb.png", png_of({{"IHDR", kHeader}, {"IDAT", stream}}));
  const int64_t before = peak_kilobytes();
  const std::string fault = fault_of([&] { read_png(file); });
  EXPECT_NE(fault.find("unpack to more than its size holds"), std::string::npos) << fault;
  EXPECT_LT(peak_kilobytes() - before, 100'000);
}

TEST(HostilePng, WhatCannotBeReadIsNamed) {
  const Scratch folder;
  for (const auto& [path, reason] : std::vector<std::pair<std::filesystem::path, std::string>>{
           {folder / "none.png", ": cannot be read: No such file or directory"},
           {folder.path(), ": cannot be read: Is a directory"},
           {write_bytes(folder / "file", "x") / "a.png", ": cannot be read: Not a directory"},
           {"/dev/zero", ": not a readable PNG: it does not begin as one"}}) {
    EXPECT_EQ(fault_of([&, p = path] { read_png(p); }), path.string() + reason);
    EXPECT_EQ(fault_of([&, p = path] { read_png_texts(p); }), path.string() + reason);
  }
}

}  // namespace
}  // namespace easel
