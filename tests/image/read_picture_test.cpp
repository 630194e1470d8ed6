// Pictures of other programs against the pixels Pillow reads from them (scripts/golden/image_golden.py), and broken
// ones.
#include <gtest/gtest.h>

#include <fstream>

#include "easel/image.h"
#include "image/scratch.h"

namespace easel {
namespace {

namespace fs = std::filesystem;
using testing::read_bytes;
using testing::Scratch;
using testing::write_bytes;

fs::path pictures() { return fs::path(EASEL_TEST_DATA) / "pictures"; }
json read_golden(const char* name) { return json::parse(std::ifstream(pictures() / name)); }

int largest_difference(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  if (a.size() != b.size()) return 256;
  int largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(int{a[i]} - int{b[i]}));
  return largest;
}

TEST(ReadPicture, SeesWhatPillowSees) {
  const json golden = read_golden("expected.json");
  EXPECT_GE(golden.size(), 18u);
  for (const auto& [name, want] : golden.items()) {
    const Image got = read_picture(pictures() / name);
    EXPECT_EQ(got.width, want.at("width")) << name;
    EXPECT_EQ(got.height, want.at("height")) << name;
    // JPEG decoders may round differently, and blending over white may by one.
    const int tolerance = name.ends_with(".jpg") ? 3 : name.find("alpha") != std::string::npos ? 1 : 0;
    EXPECT_LE(largest_difference(got.pixels, want.at("pixels")), tolerance) << name;
  }
}

std::string why_refused(const fs::path& file) {
  try {
    read_picture(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFile);
    return error.faults().front();
  }
  return "";
}

TEST(ReadPicture, AFileCutAnywhereIsRefused) {
  const Scratch folder;
  for (const char* name : {"turned1.jpg", "progressive.jpg", "plain.bmp", "plain.tga", "packed.tga", "grey.png"}) {
    const std::string whole = read_bytes(pictures() / name);
    // TGA's footer and JPEG's end marker carry no pixels.
    const std::size_t needed = whole.size() - (std::string(name).ends_with(".tga") ? 26 : 2);
    for (std::size_t size = 0; size < needed; size += 7) {
      const fs::path file = write_bytes(folder / "cut", whole.substr(0, size));
      EXPECT_NE(why_refused(file), "") << name << " cut at " << size << " of " << whole.size();
    }
  }
}

TEST(ReadPicture, OtherFilesAreRefusedByName) {
  const Scratch folder;
  const auto refused = [&](const std::string& bytes) { return why_refused(write_bytes(folder / "file.png", bytes)); };
  EXPECT_NE(refused(std::string("RIFF\x10\0\0\0WEBPVP8 ", 16)).find("WebP"), std::string::npos);
  EXPECT_NE(refused("GIF89a............").find("GIF"), std::string::npos);
  EXPECT_NE(refused(std::string("II*\0........", 12)).find("TIFF"), std::string::npos);
  EXPECT_NE(refused(std::string("\0\0\0\x18"
                                "ftypheic",
                                12))
                .find("HEIC"),
            std::string::npos);
  EXPECT_NE(refused("").find("empty"), std::string::npos);
  EXPECT_NE(refused("just a text, no picture at all"), "");
  EXPECT_NE(why_refused(folder.path()).find("folder"), std::string::npos);
  EXPECT_NE(why_refused(folder / "absent.png").find("No such file"), std::string::npos);
}

TEST(ReadPicture, AChangedByteNeverCrashes) {
  const Scratch folder;
  for (const char* name : {"turned6.jpg", "progressive.jpg", "plain.bmp", "packed.tga", "palette.png", "turned6.png"}) {
    const std::string whole = read_bytes(pictures() / name);
    for (std::size_t i = 0; i < whole.size(); i += 11) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)) ^ 0x80);
      try {
        const Image image = read_picture(write_bytes(folder / "changed", changed));
        EXPECT_EQ(image.pixels.size(), std::size_t{3} * image.width * image.height);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kFile) << error.what();
      }
    }
  }
}

Image source_of(const json& work) {
  return {work.at("source").at("width"), work.at("source").at("height"), work.at("source").at("pixels")};
}

TEST(Resize, EqualsPillowsLanczos) {
  const json work = read_golden("pixel_work.json");
  const Image source = source_of(work);
  for (const json& want : work.at("resized")) {
    const Image got = resize(source, want.at("width"), want.at("height"));
    EXPECT_EQ(largest_difference(got.pixels, want.at("pixels")), 0) << want.at("width") << "x" << want.at("height");
  }
}

TEST(Mask, GreyAndBlurEqualPillows) {
  const json work = read_golden("pixel_work.json");
  const Mask mask = grey(source_of(work));
  EXPECT_EQ(mask.pixels, work.at("grey").get<std::vector<uint8_t>>());
  for (const json& want : work.at("blurred"))
    EXPECT_EQ(largest_difference(blurred(mask, want.at("sigma")).pixels, want.at("pixels")), 0) << want.at("sigma");
  EXPECT_EQ(blurred(mask, 0).pixels, mask.pixels);
  EXPECT_EQ(inverted(inverted(mask)).pixels, mask.pixels);
}

// Columns of one colour each: which columns are left, and how wide, tells what a mode does.
Image columns(int width, int height) {
  Image image{width, height, {}};
  for (int i = 0; i < width * height; ++i)
    image.pixels.insert(image.pixels.end(), 3, static_cast<uint8_t>(i % width * 4));
  return image;
}

TEST(Resize, FitFillAndStretch) {
  const Image wide = columns(60, 20);
  const auto value = [](const Image& image, int x, int y) { return image.pixels[3 * (y * image.width + x)]; };
  for (const ResizeMode mode : {ResizeMode::kFit, ResizeMode::kFill, ResizeMode::kStretch}) {
    const Image out = resize(wide, 20, 20, mode);
    EXPECT_EQ(out.width, 20);
    EXPECT_EQ(out.height, 20);
    EXPECT_EQ(out.pixels.size(), 1200u);
  }
  const Image fill = resize(wide, 20, 20, ResizeMode::kFill);
  EXPECT_EQ(value(fill, 0, 0), 80);  // column 20: a third is cut off on each side
  EXPECT_EQ(value(fill, 19, 0), 156);
  const Image fit = resize(wide, 20, 20, ResizeMode::kFit);
  EXPECT_LT(value(fit, 0, 0), 12);  // the whole width, its rows going on above and below
  EXPECT_GT(value(fit, 19, 0), 224);
  EXPECT_EQ(value(fit, 7, 0), value(fit, 7, 10));
}

TEST(Blend, KeepsTheOutsideBytesWhereTheMaskIsBlack) {
  const Image a = columns(8, 4), b{8, 4, std::vector<uint8_t>(96, 200)};
  Mask mask{8, 4, std::vector<uint8_t>(32, 0)};
  mask.pixels[5] = 255;
  mask.pixels[6] = 128;
  const Image out = blend(a, b, mask);
  for (std::size_t i = 0; i < 32; ++i)
    EXPECT_EQ(out.pixels[3 * i], i == 5 ? 200 : i == 6 ? (200 * 128 + 24 * 127 + 127) / 255 : a.pixels[3 * i]) << i;
}

TEST(ContactSheet, PicturesInRowsWithTheirLabels) {
  const Image black{20, 10, std::vector<uint8_t>(600, 0)}, grey{16, 8, std::vector<uint8_t>(384, 99)};
  const Image sheet = contact_sheet({{black, "t 999"}, {grey, ""}, {black, "한글 ab"}}, 2);
  EXPECT_EQ(sheet.width, 4 + 2 * 24);
  EXPECT_EQ(sheet.height, 4 + 2 * (10 + 12 + 4));
  const auto value = [&](int x, int y) { return sheet.pixels[3 * (y * sheet.width + x)]; };
  const auto has_ink = [&](int left, int top) {
    for (int y = top; y < top + 12; ++y)
      for (int x = left; x < left + 20; ++x)
        if (value(x, y) == 0) return true;
    return false;
  };
  EXPECT_EQ(value(4, 4), 0);
  EXPECT_EQ(value(28, 4), 99);
  EXPECT_EQ(value(0, 0), 255);
  EXPECT_TRUE(has_ink(4, 14)) << "the first label";
  EXPECT_FALSE(has_ink(28, 14)) << "an empty label";
  EXPECT_TRUE(has_ink(4, 40)) << "a label of letters that the font lacks";
  EXPECT_THROW(contact_sheet({{Image{9000, 1, std::vector<uint8_t>(27000)}, ""}, {grey, ""}}, 2), Error);
}

}  // namespace
}  // namespace easel
