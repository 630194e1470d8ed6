// PNGs that are in order: ours back again, and small ones of other programs.
#include <gtest/gtest.h>

#include <random>

#include "easel/image.h"
#include "image/png_chunks.h"
#include "image/scratch.h"

namespace easel {
namespace {

using namespace std::string_literals;
using testing::read_bytes;
using testing::Scratch;
using testing::write_bytes;

// Red grows to the right, green downwards, blue is noise.
Image sample_picture(int width, int height) {
  Image image{width, height, {}};
  std::mt19937 random(7);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (const int value : {x * 255 / width, y * 255 / height, static_cast<int>(random() & 0xFF)}) {
        image.pixels.push_back(static_cast<uint8_t>(value));
      }
    }
  }
  return image;
}

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

std::vector<std::string> chunk_types(const std::string& bytes) {
  std::vector<std::string> types;
  for (const png::Chunk& chunk : png::chunks_of(bytes, "test.png")) types.emplace_back(chunk.type);
  return types;
}

std::vector<PngText> texts_back(const std::vector<PngText>& texts) {
  const Scratch folder;
  return read_png_texts(write_bytes(folder / "a.png", encode_png(sample_picture(3, 2), texts)));
}

void expect_same(const std::vector<PngText>& got, const std::vector<PngText>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].keyword, want[i].keyword) << i;
    EXPECT_EQ(got[i].text, want[i].text) << i;
  }
}

TEST(EncodePng, PixelsComeBack) {
  const Scratch folder;
  for (const auto& [width, height] : std::vector<std::pair<int, int>>{{1, 1}, {1, 40}, {40, 1}, {136, 88}, {257, 63}}) {
    const Image image = sample_picture(width, height);
    const Image back = read_png(write_bytes(folder / "a.png", encode_png(image, {{"easel", "{}"}})));
    EXPECT_EQ(back.width, width);
    EXPECT_EQ(back.height, height);
    EXPECT_EQ(back.pixels, image.pixels) << width << "x" << height;
  }
}

TEST(EncodePng, IsThePngOfTheSpecification) {
  const std::string bytes = encode_png({2, 1, {1, 2, 3, 4, 5, 6}}, {{"a", "b"}});
  // signature, IHDR 2x1 of 8-bit RGB, tEXt "a" = "b"; the check sums are zlib.crc32's
  EXPECT_TRUE(
      bytes.starts_with(from_hex("89504e470d0a1a0a"
                                 "0000000d49484452000000020000000108020000007b40e8dd"
                                 "0000000374455874610062dc49a23b")));
  EXPECT_TRUE(bytes.ends_with(from_hex("0000000049454e44ae426082")));
  EXPECT_EQ(chunk_types(bytes), (std::vector<std::string>{"IHDR", "tEXt", "IDAT", "IEND"}));
}

TEST(EncodePng, SameInputSameBytes) {
  EXPECT_EQ(encode_png(sample_picture(64, 64), {{"easel", "x"}}), encode_png(sample_picture(64, 64), {{"easel", "x"}}));
}

TEST(EncodePng, SmoothPicturesAreCompressed) {
  Image flat{256, 256, std::vector<uint8_t>(3 * 256 * 256, 200)};
  EXPECT_LT(encode_png(flat, {}).size(), 3u * 256 * 256 / 50);
}

TEST(PngTexts, ComeBackInOrderWithEqualKeywordsKept) {
  const std::vector<PngText> texts = {
      {"parameters", "A photo of an astronaut\nSteps: 20, Sampler: DDIM"},
      {"easel", R"({"prompt": "고양이 🐈‍⬛", "seed": 0})"},
      {"Comment", ""},
      {"Comment", "café, 50 µm, ÿ"},
      {"Größe", "keyword outside of ASCII"},
      {"Comment", "€ and \xF4\x8F\xBF\xBF are not Latin-1"},
      {"long", std::string(100'000, 'x')},
  };
  expect_same(texts_back(texts), texts);
}

TEST(PngTexts, Latin1IsTextAndTheRestInternational) {
  const auto type_of = [](const std::string& text) {
    return chunk_types(encode_png(sample_picture(1, 1), {{"key", text}}))[1];
  };
  for (const char* text : {"", "plain", "tab\tand\nline", "\u00A0 to \u00FF"}) EXPECT_EQ(type_of(text), "tEXt") << text;
  for (const char* text : {"\u0100", "가", "🐈", "caf\u00E9 €", "\u0080", "\u009F"})
    EXPECT_EQ(type_of(text), "iTXt") << text;
}

TEST(PngTexts, Latin1IsStoredAsSingleBytes) {
  const std::string bytes = encode_png(sample_picture(1, 1), {{"Größe", "é"}});
  EXPECT_NE(bytes.find(std::string("tEXtGr\xF6\xDF"
                                   "e\0\xE9",
                                   11)),
            std::string::npos);
}

TEST(PngTexts, WhatNoPngHoldsIsAUsageFault) {
  const auto fault_of = [](const std::string& text) -> std::string {
    try {
      encode_png(sample_picture(1, 1), {{"parameters", text}});
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(fault_of("a cat\0 on a mat"s).find("\"parameters\" of the picture: no PNG holds the NUL at its byte 5"),
            std::string::npos);
  EXPECT_NE(fault_of("가\0"s).find("at its byte 3"), std::string::npos);
  // a lone tail, an overlong slash, a surrogate, above U+10FFFF, cut off
  for (const char* text : {"\x80", "\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xF0\x80\x80\x80", "\xF4\x90\x80\x80",
                           "\xF5\x80\x80\x80", "\xEA\xB0", "\xF0\x9F\x90", "\xC3", "\xE9t\xE9", "\xFF"}) {
    EXPECT_NE(fault_of(text).find("not valid UTF-8"), std::string::npos) << text;
  }
}

TEST(PngTexts, KeywordsOutsideOfTheRulesAreOurFault) {
  for (const std::string& keyword :
       {std::string(), std::string(80, 'k'), std::string(" a"), std::string("a "), std::string("a  b"),
        std::string("a\nb"), std::string("키"), "a\0b"s, std::string("\xC2\xA0"), std::string("\xFF")}) {
    EXPECT_THROW(encode_png(sample_picture(1, 1), {{keyword, "text"}}), c10::Error) << keyword;
  }
  EXPECT_EQ(texts_back({{std::string(79, 'k'), "text"}}).size(), 1u);
}

TEST(EncodePng, WhatIsNoPictureIsOurFault) {
  for (const Image& image : {Image{}, Image{2, 2, {1, 2, 3}}, Image{-1, -1, {1, 2, 3}}, Image{0, 5, {}},
                             Image{kMaxPictureSide + 1, 1, std::vector<uint8_t>(3 * (kMaxPictureSide + 1))}}) {
    EXPECT_THROW(encode_png(image, {}), c10::Error) << image.width;
  }
}

TEST(ReadPngTexts, TextAfterThePixelsAndGarbageAfterTheEnd) {
  const Scratch folder;
  std::string bytes = encode_png(sample_picture(2, 2), {{"first", "1"}});
  bytes.resize(bytes.size() - 12);  // IEND
  png::append_chunk(bytes, "tEXt", "second\0\xE9"s);
  png::append_chunk(bytes, "iTXt", "third\0\0\0ko\0\xED\x82\xA4\0\xEA\xB0\x80"s);
  png::append_chunk(bytes, "IEND", "");
  const auto file = write_bytes(folder / "a.png", bytes + "appended by a camera");
  expect_same(read_png_texts(file), {{"first", "1"}, {"second", "é"}, {"third", "가"}});
  EXPECT_EQ(read_png(file).pixels, sample_picture(2, 2).pixels);
}

TEST(ReadPngTexts, APictureWithoutAnyHasNone) { EXPECT_TRUE(texts_back({}).empty()); }

// Written by Pillow 12 (the first two) and by hand after the specification, read back by Pillow.
TEST(ReadPng, EveryColourTypeBecomesRgb) {
  struct Row {
    const char* name;
    const char* hex;
    int width, height;
    std::vector<uint8_t> pixels;
  };
  const std::vector<Row> rows = {
      {"alpha dropped, not multiplied in",
       "89504e470d0a1a0a0000000d4948445200000002000000010806000000f4227f8a0000001149444154789c63e4129163d81720d20000063"
       "201"
       "e0bb669f290000000049454e44ae426082",
       2,
       1,
       {10, 20, 30, 200, 100, 50}},
      {"grey",
       "89504e470d0a1a0a0000000d494844520000000200000002080000000057dd52f80000000e49444154789c6360a86768f80f00040101ff4"
       "a2c"
       "44c50000000049454e44ae426082",
       2,
       2,
       {0, 0, 0, 127, 127, 127, 128, 128, 128, 255, 255, 255}},
      {"grey of 16 bits",
       "89504e470d0a1a0a0000000d49484452000000020000000110000000"
       "0081d9fc150000000d49444154789c6310fabffa2c00056d028ad1a9d2770000000049454e44ae426082",
       2,
       1,
       {0x12, 0x12, 0x12, 0xAB, 0xAB, 0xAB}},
      {"interlaced",
       "89504e470d0a1a0a0000000d49484452000000030000000308000000010444daf50000001749444154789c6360601061b00960e0627063"
       "90d330020008a701693ddf97620000000049454e44ae426082",
       3,
       3,
       {0, 0, 0, 10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40, 50, 50, 50, 60, 60, 60, 70, 70, 70, 80, 80, 80}},
  };
  const Scratch folder;
  for (const Row& row : rows) {
    const Image image = read_png(write_bytes(folder / "a.png", from_hex(row.hex)));
    EXPECT_EQ(image.width, row.width) << row.name;
    EXPECT_EQ(image.height, row.height) << row.name;
    EXPECT_EQ(image.pixels, row.pixels) << row.name;
  }
}

TEST(ReadPng, PalettesAreExpanded) {
  const std::string grey = from_hex(
      "89504e470d0a1a0a0000000d494844520000000200000002080000000057dd52f80000000e49444154789c6360a86768f80f00040101ff4a"
      "2c44"
      "c50000000049454e44ae426082");
  std::string palette;
  for (int i = 0; i < 256; ++i) palette += {static_cast<char>(i), static_cast<char>(255 - i), static_cast<char>(i / 2)};
  std::string bytes(png::kSignature);
  for (const png::Chunk& chunk : png::chunks_of(grey, "grey.png")) {
    std::string data(chunk.data);
    if (chunk.type == "IHDR") data[9] = 3;  // colour type: palette
    if (chunk.type == "IDAT") png::append_chunk(bytes, "PLTE", palette);
    png::append_chunk(bytes, chunk.type, data);
  }
  const Scratch folder;
  EXPECT_EQ(read_png(write_bytes(folder / "a.png", bytes)).pixels,
            (std::vector<uint8_t>{0, 255, 0, 127, 128, 63, 128, 127, 64, 255, 0, 127}));
}

}  // namespace
}  // namespace easel
