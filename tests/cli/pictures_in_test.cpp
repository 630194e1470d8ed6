// Pictures that begin with pictures, by the bundled model: which are taken, what is refused, what is stored.
#include <sys/stat.h>

#include <fstream>

#include "cli/program.h"
#include "easel/image.h"
#include "easel/pipeline.h"

namespace easel::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;

class PicturesIn : public CliTest {
 protected:
  PicturesIn() { paint("in.png", 64, 64); }

  // A picture in which every pixel tells its place.
  void paint(const std::string& name, int width, int height) const {
    Image image{width, height, {}};
    for (int i = 0; i < width * height; ++i)
      for (const int value : {i % width * 3, i / width * 3, (i % width ^ i / width) * 3})
        image.pixels.push_back(static_cast<uint8_t>(value));
    make(name, encode_png(image, {}));
  }

  // White from column `left` to `right` (past the end), black beside it.
  void paint_mask(const std::string& name, int width, int height, int left, int right) const {
    Image image{width, height, {}};
    for (int i = 0; i < width * height; ++i)
      image.pixels.insert(image.pixels.end(), 3, i % width >= left && i % width < right ? 255 : 0);
    make(name, encode_png(image, {}));
  }

  Result begin(Words words, Surroundings around = {}) const {
    for (const char* word : {"-s", "1", "--steps", "2", "--dtype", "f32", "--device", "cpu"}) words.push_back(word);
    return run(words, std::move(around));
  }

  // One JSON object a picture that would be drawn.
  std::vector<json> plan(Words words) const {
    words.push_back("--dry-run");
    const Result r = begin(words);
    EXPECT_EQ(r.code, 0) << r.err;
    std::vector<json> requests;
    for (const std::string& line : lines_of(r.out)) requests.push_back(json::parse(line));
    return requests;
  }
  Words pictures_of(const Words& words) const {
    Words names;
    for (const json& request : plan(words)) {  // absolute, for the lines are a job file that may lie anywhere
      const fs::path file = request.at("init_img").get<std::string>();
      EXPECT_TRUE(file.is_absolute()) << file;
      names.push_back(file.lexically_relative(folder_));
    }
    return names;
  }

  // Nothing is drawn, nothing is left, and standard output is empty.
  void refused(int code, const Words& words, const Words& said) const {
    const Words before = files();
    const Result r = begin(words);
    EXPECT_EQ(r.code, code) << r.err;
    EXPECT_EQ(r.out, "");
    expect_words(r.err, said);
    EXPECT_EQ(files(), before);
  }

  Image picture(const std::string& name) const { return read_png(folder_ / name); }
  std::string text(const std::string& name, const std::string& keyword) const {
    for (const PngText& entry : read_png_texts(folder_ / name)) {
      if (entry.keyword == keyword) return entry.text;
    }
    return "";
  }
};

std::string sample(const std::string& name) {
  std::ifstream in(fs::path(EASEL_TEST_DATA) / "pictures" / name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// ---- which pictures -----------------------------------------------------------------------------------------------

TEST_F(PicturesIn, TheSizeIsThePicturesAndTheRequestIsStored) {
  paint("wide.png", 72, 64);
  const Result r = begin({"a dog", "-i", "wide.png", "--strength", "0.5", "-o", "out.png"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "out.png\n");
  const Image out = picture("out.png");
  EXPECT_EQ(std::pair(out.width, out.height), std::pair(72, 64));
  EXPECT_NE(out.pixels, picture("wide.png").pixels);
  const json exact = json::parse(text("out.png", "easel"));
  EXPECT_EQ(exact.at("init_img"), "wide.png");
  EXPECT_EQ(exact.at("strength"), 0.5);
  for (const char* absent : {"mask", "mask_blur", "resize", "outpaint", "no_paste_back", "hires"})
    EXPECT_FALSE(exact.contains(absent)) << absent;

  const Result again = begin({"a dog", "-i", "wide.png", "--strength", "0.5", "-o", "again.png"});
  EXPECT_EQ(picture("again.png").pixels, out.pixels) << again.err;
}

TEST_F(PicturesIn, StrengthDecidesHowMuchIsLeft) {
  const auto distance = [&](const char* strength) {
    const std::string name = "of-"s + strength + ".png";
    const Result r = run({"a dog", "-i", "in.png", "--strength", strength, "-s", "1", "--steps", "5", "-o", name});
    EXPECT_EQ(r.code, 0) << r.err;
    const Image a = picture("in.png"), b = picture(name);
    int64_t sum = 0;
    for (std::size_t i = 0; i < a.pixels.size(); ++i) sum += std::abs(int{a.pixels[i]} - int{b.pixels[i]});
    return sum;
  };
  EXPECT_LT(distance("0.2"), distance("1"));
}

TEST_F(PicturesIn, AFolderAPatternAndRepeatedOptions) {
  fs::create_directory(folder_ / "in");
  make("in/b.png", bytes("in.png"));
  make("in/a.JPG", sample("turned1.jpg"));
  make("in/c.tga", sample("plain.tga"));
  make("in/notes.txt", "no picture");
  fs::create_directory(folder_ / "in" / "deeper.png");
  const Words fill = {"a", "--resize", "fill"};
  const auto given = [&](Words words) {
    words.insert(words.begin(), fill.begin(), fill.end());
    return pictures_of(words);
  };
  EXPECT_EQ(given({"-i", "in"}), (Words{"in/a.JPG", "in/b.png", "in/c.tga"}));
  EXPECT_EQ(given({"-i", "in/[bc].*"}), (Words{"in/b.png", "in/c.tga"}));
  EXPECT_EQ(given({"-i", "in/c.tga", "--init-img", "in.png", "-i", "in/b*"}),
            (Words{"in/c.tga", "in.png", "in/b.png"}));

  const Result r = begin({"a", "-i", "in", "--resize", "fill", "-W", "64", "-H", "64"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "00000-1.png\n00001-1.png\n00002-1.png\n");
  EXPECT_EQ(json::parse(text("00001-1.png", "easel")).at("init_img"), "in/b.png");
  EXPECT_NE(picture("00000-1.png").pixels, picture("00001-1.png").pixels);
}

TEST_F(PicturesIn, ANameWithTheCharactersOfPatternsIsAName) {
  paint("a[1]*.png", 64, 64);
  EXPECT_EQ(pictures_of({"a", "-i", "a[1]*.png"}), Words{"a[1]*.png"});
}

TEST_F(PicturesIn, EveryPromptIsDrawnOverEveryPicture) {
  paint("second.png", 64, 64);
  std::vector<std::string> seen;
  for (const json& r : plan({"a dog", "a cat", "-b", "2", "-i", "in.png", "-i", "second.png"}))
    seen.push_back(r.at("prompt").get<std::string>() + " " +
                   fs::path(r.at("init_img").get<std::string>()).filename().string() + " " +
                   std::to_string(r.at("seed").get<int>()));
  EXPECT_EQ(seen, (Words{"a dog in.png 1", "a dog in.png 2", "a dog second.png 1", "a dog second.png 2",
                         "a cat in.png 1", "a cat in.png 2", "a cat second.png 1", "a cat second.png 2"}));
  const Result r = begin({"a dog", "a cat", "-i", "in.png", "-i", "second.png"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(lines_of(r.out).size(), 4u);
  refused(2, {"a dog", "-i", "in.png", "-i", "second.png", "-o", "one.png"}, {"{index}"});
}

TEST_F(PicturesIn, EveryFormatIsRead) {
  for (const char* name : {"turned6.jpg", "progressive.jpg", "plain.bmp", "packed.tga", "grey16.png", "palette.png"}) {
    make(name, sample(name));
    const Result r = begin({"a", "-i", name, "-W", "64", "-H", "64", "-o", name + ".png"s});
    EXPECT_EQ(r.code, 0) << name << r.err;
    EXPECT_EQ(r.out, name + ".png\n"s);
  }
}

// ---- what is refused ----------------------------------------------------------------------------------------------

TEST_F(PicturesIn, PicturesThatCannotBeRead) {
  const std::string png = bytes("in.png"), jpeg = sample("turned1.jpg"), bmp = sample("plain.bmp"),
                    tga = sample("plain.tga");
  std::string changed = png, huge = png;
  changed[changed.size() / 2] ^= 0x20;
  huge.replace(16, 8, "\x7F\xFF\xFF\xFF\x7F\xFF\xFF\xFF");
  struct Row {
    std::string content, reason;
  };
  for (const Row& row : std::vector<Row>{
           {"", "it is empty"},
           {"a text, no picture", "not a readable picture"},
           {png.substr(0, 20), "the file ends after 0"},
           {png.substr(0, png.size() / 2), "not a readable PNG"},
           {png.substr(0, png.size() - 1), "not a readable PNG"},
           {changed, "check sum"},
           {huge, "not a readable"},
           {jpeg.substr(0, 20), "damaged or cut off"},
           {jpeg.substr(0, jpeg.size() / 2), "ends before its pixels do"},
           {bmp.substr(0, bmp.size() / 2), "ends before its pixels do"},
           {tga.substr(0, tga.size() / 2), "ends before its pixels do"},
           {"BM"s + std::string(16, '\0') + "\xFF\xFF\xFF\x7F\xFF\xFF\xFF\x7F\1\0\x18\0"s + std::string(100, '\0'),
            "not a readable picture"},
           {"RIFF\x10\0\0\0WEBPVP8 "s, "WebP"},
           {"GIF89a............", "GIF"},
           {"\x89PNG\r\n\x1a\n", "not a readable PNG"},
       }) {
    make("bad.png", row.content);
    SCOPED_TRACE(row.reason + ", " + std::to_string(row.content.size()) + " bytes");
    refused(3, {"a", "-i", "bad.png", "-W", "64", "-H", "64"}, {"bad.png", row.reason});
  }
  make("bad.png", png.substr(0, 20));
  refused(3, {"a", "-i", "in.png", "--mask", "bad.png"}, {"bad.png", "the file ends after 0"});
  // Found where the pixels are read: the header says that it fits.
  paint("small.png", 13, 9);
  make("bad.png", bmp.substr(0, bmp.size() / 2));
  refused(3, {"a", "-i", "small.png", "--mask", "bad.png", "-W", "64", "-H", "64"}, {"bad.png", "ends before"});
}

TEST_F(PicturesIn, PlacesThatHoldNoPicture) {
  fs::create_directory(folder_ / "empty");
  refused(3, {"a", "-i", "absent.png"}, {"absent.png", "No such file"});
  refused(2, {"a", "-i", "empty"}, {"no picture", "empty"});
  refused(2, {"a", "-i", "*.bmp"}, {"no file matches *.bmp"});
  refused(2, {"a", "-i", ""}, {"--init-img", "empty"});
  refused(3, {"a", "-i", "in.png", "--mask", "empty"}, {"empty", "folder"});
  refused(3, {"a", "-i", "in.png", "--mask", "absent.png"}, {"absent.png", "No such file"});
  ASSERT_EQ(::mkfifo((folder_ / "pipe.png").c_str(), 0600), 0);
  refused(3, {"a", "-i", "pipe.png"}, {"pipe.png", "pipe"});
  refused(3, {"a", "-i", "/dev/zero"}, {"/dev/zero", "device"});
  fs::create_symlink("nowhere.png", folder_ / "broken.png");
  refused(3, {"a", "-i", "broken.png"}, {"broken.png", "No such file"});
}

TEST_F(PicturesIn, OneOfManyThatCannotBeReadFailsAlone) {
  make("bad.png", "no picture");
  for (const char* bad : {"absent.png", "bad.png"}) {
    const Result r = begin({"a", "-i", "in.png", "-i", bad, "-i", "in.png", "--outdir", "of-"s + bad});
    EXPECT_EQ(r.code, 5) << r.err;
    EXPECT_EQ(r.out, "of-"s + bad + "/00000-1.png\nof-" + bad + "/00002-1.png\n");
    expect_words(r.err, {bad, "1 of 3"});
  }
}

TEST_F(PicturesIn, Strengths) {
  for (const char* strength : {"0", "1.5", "nan", "0.5x"})
    refused(2, {"a", "-i", "in.png", "--strength="s + strength}, {"--strength", "expected a number from 0.001 to 1"});
  refused(2, {"a", "-i", "in.png", "--strength", "0.1"}, {"no step is left of 2", "--strength"});
  refused(2, {"a", "--strength", "0.5"}, {"--strength has no effect without --init-img"});
}

TEST_F(PicturesIn, Masks) {
  paint_mask("small.png", 32, 64, 0, 32);
  paint_mask("black.png", 64, 64, 0, 0);
  paint_mask("white.png", 64, 64, 0, 64);
  refused(2, {"a", "-i", "in.png", "--mask", "small.png"}, {"--mask is 32x64, the picture is 64x64"});
  refused(2, {"a", "-i", "in.png", "--mask", "black.png"}, {"--mask", "black everywhere", "--invert-mask"});
  refused(2, {"a", "-i", "in.png", "--mask", "white.png", "--invert-mask"}, {"black everywhere"});
  refused(2, {"a", "--mask", "white.png"}, {"--mask has no effect without --init-img"});
  refused(2, {"a", "-i", "in.png", "--mask", "white.png", "--outpaint", "8,0,0,0"}, {"exclude each other"});
  refused(2, {"a", "-i", "in.png", "--mask-blur", "2", "--no-paste-back"},
          {"--mask-blur has no effect", "--no-paste-back has no effect"});
}

TEST_F(PicturesIn, Margins) {
  for (const char* margins : {"8,0,0", "8,0,0,0,0", "-8,0,0,0", "1.5,0,0,0", "1e2,0,0,0", "99999999999999999999,0,0,0"})
    refused(2, {"a", "-i", "in.png", "--outpaint="s + margins}, {"--outpaint"});
  refused(2, {"a", "-i", "in.png", "--outpaint", "0,0,0,0"}, {"--outpaint", "not all 0"});
  refused(2, {"a", "-i", "in.png", "--outpaint", "16384,0,0,0"}, {"16448x64 is too large"});
  refused(2, {"a", "-i", "in.png", "--outpaint", "0,0,99999%,0"}, {"--outpaint"});
  refused(2, {"a", "-i", "in.png", "--outpaint", "3,0,0,0"}, {"67x64", "multiples of 8", "--resize fill"});
  refused(2, {"a", "--outpaint", "8,0,0,0"}, {"--outpaint has no effect without --init-img"});
}

TEST_F(PicturesIn, SizesThatAreNoMultipleOfEight) {
  paint("odd.png", 70, 61);
  refused(2, {"a", "-i", "odd.png"}, {"odd.png is 70x61", "multiples of 8", "--resize fill cuts it to 72x64"});
  refused(2, {"a", "-i", "odd.png", "-W", "70"}, {"70", "multiple of 8"});
  refused(2, {"a", "-i", "odd.png", "--resize", "squeeze"}, {"--resize", "fit, fill or stretch"});
  const auto size = [&](Words words) {
    words.insert(words.begin(), {"a", "-i", "odd.png"});
    const json r = plan(words).at(0);
    return std::to_string(r.at("width").get<int>()) + "x" + std::to_string(r.at("height").get<int>()) + " " +
           r.at("resize").get<std::string>();
  };
  EXPECT_EQ(size({"--resize", "fit"}), "72x64 fit");
  EXPECT_EQ(size({"-W", "144"}), "144x128 fill");
  EXPECT_EQ(size({"-W", "64", "-H", "64", "--resize", "stretch"}), "64x64 stretch");
  EXPECT_EQ(begin({"a", "-i", "odd.png", "--strength", "0.5", "--resize", "fit", "-o", "fit.png"}).code, 0);
  EXPECT_EQ(std::pair(picture("fit.png").width, picture("fit.png").height), std::pair(72, 64));
}

TEST_F(PicturesIn, EveryFaultIsToldAtOnce) {
  refused(2, {"a", "--strength", "0", "--outpaint", "x", "--resize", "y", "--hires", "9"},
          {"--strength \"0\"", "--outpaint \"x\"", "--resize \"y\"", "--hires \"9\""});
}

// ---- what is drawn ------------------------------------------------------------------------------------------------

TEST_F(PicturesIn, BytesOutsideOfTheMaskStay) {
  paint_mask("mask.png", 64, 64, 16, 40);
  const Result r = begin({"a dog", "-i", "in.png", "--mask", "mask.png", "-o", "out.png"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "out.png\n");
  const Image before = picture("in.png"), after = picture("out.png");
  int64_t repainted = 0;
  for (std::size_t i = 0; i < before.pixels.size(); ++i) {
    const std::size_t column = i / 3 % 64;
    if (column < 16 || column >= 40)
      ASSERT_EQ(after.pixels[i], before.pixels[i]) << "value " << i;
    else
      repainted += after.pixels[i] != before.pixels[i];
  }
  EXPECT_GT(repainted, 24 * 64);
  const json exact = json::parse(text("out.png", "easel"));
  EXPECT_EQ(exact.at("mask"), "mask.png");
  EXPECT_EQ(exact.at("strength"), 1);
  EXPECT_EQ(exact.at("mask_blur"), 0);

  const Result plain = begin({"a dog", "-i", "in.png", "--mask", "mask.png", "--no-paste-back", "-o", "plain.png"});
  EXPECT_EQ(plain.code, 0) << plain.err;
  EXPECT_NE(picture("plain.png").pixels, after.pixels);
  EXPECT_EQ(json::parse(text("plain.png", "easel")).at("no_paste_back"), true);
}

TEST_F(PicturesIn, ACanvasIsExtended) {
  const Result r = begin({"a dog", "-i", "in.png", "--outpaint", "0,0,50%,8", "-o", "out.png"});
  EXPECT_EQ(r.code, 0) << r.err;
  const Image before = picture("in.png"), after = picture("out.png");
  ASSERT_EQ(std::pair(after.width, after.height), std::pair(96, 72));
  for (int y = 0; y < 48; ++y)
    for (int i = 0; i < 3 * 48; ++i)
      ASSERT_EQ(after.pixels[std::size_t(3 * 96 * y + i)], before.pixels[std::size_t(3 * 64 * y + i)]) << y << " " << i;
  EXPECT_EQ(json::parse(text("out.png", "easel")).at("outpaint"), "0,0,50%,8");
}

TEST_F(PicturesIn, ACropIsPastedBack) {
  paint("large.png", 200, 150);
  paint_mask("mask.png", 200, 150, 90, 110);
  const Result r = begin({"a dog", "-i", "large.png", "--mask", "mask.png", "--inpaint-full-res", "-W", "64", "-H",
                          "64", "--inpaint-padding", "8", "-o", "out.png"});
  EXPECT_EQ(r.code, 0) << r.err;
  const Image out = picture("out.png");
  EXPECT_EQ(std::pair(out.width, out.height), std::pair(200, 150)) << "no multiple of 8, and none is needed";
  const json exact = json::parse(text("out.png", "easel"));
  EXPECT_EQ(exact.at("inpaint_full_res"), true);
  EXPECT_EQ(exact.at("inpaint_padding"), 8);
}

TEST_F(PicturesIn, ThePictureItselfMayBeReplaced) {
  refused(2, {"a", "-i", "in.png", "-o", "in.png"}, {"in.png", "--overwrite"});
  const std::string before = bytes("in.png");
  const Result r = begin({"a", "-i", "in.png", "-o", "in.png", "--overwrite"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_TRUE(bytes("in.png") != before);
  EXPECT_EQ(files(), Words{"in.png"});
}

TEST_F(PicturesIn, ASecondPassIsLarger) {
  const Result r = begin({"a", "-W", "64", "-H", "64", "--hires", "1.5", "-o", "-"});
  EXPECT_EQ(r.code, 0) << r.err;
  make("out.png", r.out);
  EXPECT_EQ(picture("out.png").width, 96);
  EXPECT_EQ(json::parse(text("out.png", "easel")).at("hires"), 1.5);
}

TEST_F(PicturesIn, StripsDrawTheSamePicture) {
  const auto drawn = [&](const std::string& option) {
    Words words = {"a dog", "-i", "in.png", "-o", "of" + option + ".png"};
    if (!option.empty()) words.push_back(option);
    EXPECT_EQ(begin(words).code, 0) << option;
    return picture("of" + option + ".png");
  };
  const Image whole = drawn(""), strips = drawn("--vae-tiling");
  int largest = 0;
  for (std::size_t i = 0; i < whole.pixels.size(); ++i)
    largest = std::max(largest, std::abs(int{whole.pixels[i]} - int{strips.pixels[i]}));
  EXPECT_LE(largest, 1);
}

}  // namespace
}  // namespace easel::testing
