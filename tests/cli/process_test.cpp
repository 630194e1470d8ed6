// The process to look at: --trajectory, easel forward, easel tokens, by the bundled model.
#include <cmath>

#include "cli/program.h"
#include "easel/image.h"
#include "easel/pipeline.h"

namespace easel::testing {
namespace {

namespace fs = std::filesystem;

// What src/image/sheet.cpp lays out round pictures of less than 256 pixels.
constexpr int kMargin = 4, kLine = 12;

class Process : public CliTest {
 protected:
  // Exit code, nothing on standard output, no file beside those that were there.
  void refuses(const Words& arguments, const Words& words, int code = 2) const {
    const Words before = files();
    const Result r = run(arguments);
    EXPECT_EQ(r.code, code) << r.err;
    EXPECT_EQ(r.out, "");
    EXPECT_EQ(files(), before);
    expect_words(r.err, words);
  }

  Image picture(const std::string& name) const { return read_png(folder_ / name); }
  void draw_fox(const Words& more) const {
    Words arguments = {"a red fox", "-s", "1", "-W", "64", "-H", "48", "--dtype", "f32", "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Result r = run(arguments);
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, "fox.png\n");
  }
  void make_picture(const std::string& name, int width, int height) const {
    Image image{width, height, {}};
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const int shade = x * 255 / width, other = y * 255 / height;
        for (const int value : {shade, other, 128}) image.pixels.push_back(static_cast<uint8_t>(value));
      }
    }
    make(name, encode_png(image, {}));
  }
};

// The cells of a strip of pictures of one size; each must have a label.
std::vector<Image> cells_of(const Image& sheet, int columns, int rows, int width, int height) {
  EXPECT_EQ(sheet.width, kMargin + columns * (width + kMargin));
  EXPECT_EQ(sheet.height, kMargin + rows * (height + kLine + kMargin));
  if (sheet.width < kMargin + columns * (width + kMargin)) return {};
  if (sheet.height < kMargin + rows * (height + kLine + kMargin)) return {};
  const auto cut = [&](int left, int top, int lines) {
    Image part{width, lines, {}};
    for (int y = 0; y < lines; ++y) {
      const auto* from = &sheet.pixels[std::size_t{3} * ((top + y) * sheet.width + left)];
      part.pixels.insert(part.pixels.end(), from, from + std::size_t{3} * width);
    }
    return part;
  };
  std::vector<Image> cells;
  for (int i = 0; i < columns * rows; ++i) {
    const int left = kMargin + i % columns * (width + kMargin),
              top = kMargin + i / columns * (height + kLine + kMargin);
    const Image label = cut(left, top + height, kLine);
    const auto black = std::count(label.pixels.begin(), label.pixels.end(), 0);
    EXPECT_GT(black, 20) << "no label under picture " << i;
    EXPECT_EQ(black + std::count(label.pixels.begin(), label.pixels.end(), 255), 3 * width * kLine)
        << "a label is black on white";
    cells.push_back(cut(left, top, height));
  }
  return cells;
}

// Mean difference of the 8-bit values.
double apart(const Image& a, const Image& b) {
  EXPECT_EQ(a.pixels.size(), b.pixels.size());
  double sum = 0;
  for (std::size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i)
    sum += std::abs(a.pixels[i] - b.pixels[i]);
  return sum / static_cast<double>(a.pixels.size());
}

// ---- --trajectory -------------------------------------------------------------------------------------------------

TEST_F(Process, TrajectoryShowsEveryNetworkCall) {
  draw_fox({"-o", "fox.png", "--steps", "4", "--sampler", "ddim", "--trajectory", "way.png"});
  EXPECT_EQ(files(), (Words{"fox.png", "way.png"}));
  const std::vector<Image> cells = cells_of(picture("way.png"), 4, 2, 64, 48);
  ASSERT_EQ(cells.size(), 8u);
  const Image fox = picture("fox.png");
  for (int column = 1; column < 4; ++column) {
    const std::size_t noisy = static_cast<std::size_t>(column), predicted = noisy + 4;
    EXPECT_LT(apart(cells[noisy], fox), apart(cells[noisy - 1], fox)) << "x_t nears the picture, column " << column;
    EXPECT_LT(apart(cells[predicted], fox), apart(cells[predicted - 1], fox)) << "so does x_0, column " << column;
  }
  EXPECT_LT(apart(cells[7], fox), 3) << "the last prediction of x_0 is the picture, but for the noise of t 1";
}

TEST_F(Process, TrajectoryLeavesThePictureAsItIs) {
  draw_fox({"-o", "fox.png", "--steps", "2"});
  const std::string alone = bytes("fox.png");
  draw_fox({"-o", "fox.png", "--overwrite", "--steps", "2", "--trajectory", "way.png"});
  EXPECT_EQ(bytes("fox.png"), alone);
}

TEST_F(Process, TrajectoryEveryKeepsTheFirstAndTheLast) {
  const Words heun = {"-o", "fox.png", "--overwrite", "--steps", "3", "--sampler", "heun"};  // 5 network calls
  for (const auto& [every, columns] :
       std::vector<std::pair<std::string, int>>{{"1", 5}, {"2", 3}, {"3", 3}, {"9", 2}}) {
    Words arguments = heun;
    const std::string strip = "every" + every + ".png";
    arguments.insert(arguments.end(), {"--trajectory", strip, "--trajectory-every", every});
    draw_fox(arguments);
    const std::vector<Image> all = cells_of(picture("every1.png"), 5, 2, 64, 48);
    const std::vector<Image> cells = cells_of(picture(strip), columns, 2, 64, 48);
    ASSERT_EQ(all.size(), 10u);
    ASSERT_EQ(cells.size(), static_cast<std::size_t>(2 * columns));
    EXPECT_EQ(cells.front().pixels, all.front().pixels) << every;
    EXPECT_EQ(cells.back().pixels, all.back().pixels) << every;
  }
}

TEST_F(Process, TrajectoryIsToldOnStandardErrorAlone) {
  const Result json_lines = draw({"a", "-s", "1", "-o", "a.png", "--json", "--trajectory", "way.png"});
  EXPECT_EQ(json_lines.code, 0) << json_lines.err;
  ASSERT_EQ(lines_of(json_lines.out).size(), 1u);
  EXPECT_EQ(json::parse(json_lines.out).at("path"), "a.png");
  expect_words(json_lines.err, {"trajectory: way.png"});
  const Result piped = draw({"a", "-s", "1", "-o", "-", "-q", "--trajectory", "way2.png"});
  EXPECT_EQ(piped.out, bytes("a.png"));
  EXPECT_EQ(piped.err, "");
  EXPECT_EQ(bytes("way2.png"), bytes("way.png"));
}

TEST_F(Process, TrajectoriesThatCannotBeDrawn) {
  make("there.png", "kept");
  refuses({"a", "--trajectory", "there.png"}, {"--trajectory: there.png exists"});
  EXPECT_EQ(bytes("there.png"), "kept");
  refuses({"a", "b", "--trajectory", "way.png"}, {"--trajectory: a strip shows one picture's way, these are 2"});
  refuses({"a", "-b", "3", "--trajectory", "way.png", "--trajectory-every", "0"},
          {"these are 3", "--trajectory-every '0': expected a whole number from 1"});
  refuses({"a", "--trajectory-every", "2"}, {"--trajectory-every has no effect without --trajectory"});
  refuses({"a", "--trajectory", "way.png", "--trajectory-every", "two", "--dry-run"},
          {"--trajectory-every 'two': expected a whole number", "--trajectory has no effect with --dry-run"});
  refuses({"a", "--trajectory", ""}, {"--trajectory: the name is empty"});
  refuses({"a", "--trajectory"}, {"--trajectory: its value is missing"});
}

TEST_F(Process, AStripThatCannotBeWrittenCostsNoPicture) {
  const Result r = draw({"a", "-o", "a.png", "--trajectory", "no/such/way.png"});
  EXPECT_EQ(r.code, 3);
  expect_words(r.err, {"no/such/way.png", "there is no folder no/such"});
  EXPECT_EQ(r.out, "a.png\n");
  EXPECT_EQ(picture("a.png").width, 64);
}

// ---- easel forward ------------------------------------------------------------------------------------------------

TEST_F(Process, ForwardOnPixels) {
  make_picture("in.png", 50, 37);  // no VAE: any size
  const Result r = run({"forward", "in.png"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "forward.png\n");
  EXPECT_EQ(files(), (Words{"forward.png", "in.png"}));
  const std::vector<Image> cells = cells_of(picture("forward.png"), 5, 1, 50, 37);
  ASSERT_EQ(cells.size(), 5u);
  const Image in = picture("in.png");
  EXPECT_LT(apart(cells[0], in), 4) << "sqrt(1 - abar_0) of Stable Diffusion's betas is 0.029";
  for (std::size_t i = 1; i < 5; ++i) EXPECT_GT(apart(cells[i], in), apart(cells[i - 1], in)) << i;
}

TEST_F(Process, ForwardIsTheFormulaOnTheSeedsNoise) {
  make_picture("in.png", 40, 24);
  EXPECT_EQ(run({"forward", "-i", "in.png", "-o", "one.png", "--timesteps", "300", "-s", "5"}).out, "one.png\n");
  const std::vector<Image> cells = cells_of(picture("one.png"), 1, 1, 40, 24);
  ASSERT_EQ(cells.size(), 1u);
  // q(x_t | x_0) by hand: scaled-linear betas from 0.00085 to 0.012
  double alpha_bar = 1;
  for (int t = 0; t <= 300; ++t) {
    const double root = std::sqrt(0.00085) + (std::sqrt(0.012) - std::sqrt(0.00085)) * t / 999;
    alpha_bar *= 1 - root * root;
  }
  RandomStream stream(5);
  const Tensor noise = stream.randn({1, 3, 24, 40})[0].permute({1, 2, 0}).contiguous();
  const Image in = picture("in.png");
  for (std::size_t i = 0; i < in.pixels.size(); ++i) {
    const double x0 = in.pixels[i] / 127.5 - 1, eps = noise.const_data_ptr<float>()[i];
    const double x = std::sqrt(alpha_bar) * x0 + std::sqrt(1 - alpha_bar) * eps;
    ASSERT_NEAR(cells[0].pixels[i], std::round(127.5 * (std::clamp(x, -1.0, 1.0) + 1)), 1) << "value " << i;
  }
  EXPECT_EQ(run({"forward", "in.png", "-o", "two.png", "--timesteps", "300", "-s", "5"}).code, 0);
  EXPECT_EQ(run({"forward", "in.png", "-o", "three.png", "--timesteps", "300", "-s", "6"}).code, 0);
  EXPECT_EQ(bytes("two.png"), bytes("one.png"));
  EXPECT_NE(bytes("three.png"), bytes("one.png"));
}

TEST_F(Process, ForwardToStandardOutput) {
  make_picture("in.png", 16, 16);
  const Result r = run({"forward", "in.png", "-o", "-", "--timesteps", "0,999"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(files(), Words{"in.png"});
  make("out.png", r.out);
  cells_of(picture("out.png"), 2, 1, 16, 16);
}

TEST_F(Process, ForwardOnTheLatent) {
  const Result fox = run({"a red fox", "-o", "in.png", "-s", "1", "--steps", "8", "-W", "64", "-H", "48"});
  EXPECT_EQ(fox.code, 0) << fox.err;
  const Result r = run({"forward", "in.png", "--latent", "-o", "latent.png", "--timesteps", "0,200,999"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "latent.png\n");
  const std::vector<Image> cells = cells_of(picture("latent.png"), 3, 1, 64, 48);
  ASSERT_EQ(cells.size(), 3u);
  const Image in = picture("in.png");
  EXPECT_LT(apart(cells[0], in), 12) << "through the VAE and back";
  EXPECT_GT(apart(cells[1], in), apart(cells[0], in));
  EXPECT_GT(apart(cells[2], in), apart(cells[1], in));
  EXPECT_EQ(run({"forward", "in.png", "-o", "pixels.png", "--timesteps", "0,200,999"}).code, 0);
  EXPECT_NE(bytes("pixels.png"), bytes("latent.png"));
  make_picture("odd.png", 50, 37);
  refuses({"forward", "odd.png", "--latent"}, {"the picture is 50x37", "multiples of"});
}

TEST_F(Process, ForwardRefusesWhatItCannotUse) {
  make_picture("in.png", 16, 16);
  make("there.png", "kept");
  make("text.png", "no picture");
  refuses({"forward"}, {"no picture was given", "easel forward --help"});
  refuses({"forward", "in.png", "-o", "there.png", "--timesteps", "0,x", "-s", "-1", "--timestep"},
          {"there.png exists: --overwrite replaces it", "--timesteps \"0,x\": expected whole numbers",
           "--seed \"-1\": expected a whole number", "unknown option --timestep; nearest: --timesteps"});
  EXPECT_EQ(bytes("there.png"), "kept");
  for (const char* list : {"", ",", "5,", ",5", "0,,5", "-1", "1.5", "0, 5", "99999999999999999999"})
    refuses({"forward", "in.png", "--timesteps", list}, {"--timesteps", "expected whole numbers"});
  refuses({"forward", "in.png", "--timesteps", "0,1000"}, {"1000", "999"});
  refuses({"forward", "in.png", "-o", "strip.jpg"}, {"-o strip.jpg: pictures are written as PNG"});
  refuses({"forward", "in.png", "-o", "{seed}.png"}, {"-o {seed}.png: a strip's name has no {fields}"});
  refuses({"forward", "in.png", "-o", ""}, {"-o: the name is empty"});
  refuses({"forward", "in.png", "-o", "."}, {". is a folder"});
  refuses({"forward", "in.png", "in.png"}, {"--init-img is given 2 times"});
  refuses({"forward", "missing.png"}, {"missing.png"}, 3);
  refuses({"forward", "text.png"}, {"text.png"}, 3);
  refuses({"forward", "in.png", "-m", "no/such/model"}, {"no/such/model"}, 3);
  refuses({"forward", "in.png", "-o", "no/such/out.png"}, {"there is no folder no/such"}, 3);
  const Result r = run({"forward", "in.png", "-o", "there.png", "--overwrite", "--timesteps", "0"});
  EXPECT_EQ(r.out, "there.png\n") << r.err;
  cells_of(picture("there.png"), 1, 1, 16, 16);
}

// ---- easel tokens -------------------------------------------------------------------------------------------------

TEST_F(Process, TokensOfThePublishedVocabulary) {
  const Result r = run({"tokens", "a red fox", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  ASSERT_EQ(lines_of(r.out).size(), 1u);
  const json line = json::parse(r.out);
  EXPECT_EQ(line.at("encoder"), "text_encoder");
  EXPECT_EQ(line.at("ids"), (json{49406, 320, 736, 3240, 49407}));  // CLIP's ids of these words
  EXPECT_EQ(line.at("max_length"), 77);
  EXPECT_EQ(line.at("cut"), "");
  EXPECT_EQ(line.at("cut_length"), 0);
  ASSERT_EQ(line.at("tokens").size(), 5u);
  expect_words(line.at("tokens")[3].get<std::string>(), {"fox"});

  const Result table = run({"tokens", "-p", "a red fox"});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_EQ(lines_of(table.out).size(), 7u) << table.out;  // how many, the heading, five tokens
  expect_words(table.out, {"text_encoder: 5 of 77 tokens", "PLACE", "49406", "3240", "<start>", "<end>"});
  EXPECT_EQ(files(), Words{});
}

TEST_F(Process, TokensTellWhatIsCut) {
  std::string prompt;
  for (int i = 0; i < 80; ++i) prompt += i == 79 ? "zebra" : "fox ";
  const Result r = run({"tokens", prompt, "--json", "--prompt-syntax", "raw"});
  const json line = json::parse(r.out);
  EXPECT_EQ(line.at("ids").size(), 77u);
  EXPECT_EQ(line.at("ids").back(), 49407);
  EXPECT_EQ(line.at("cut_length"), 5);
  expect_words(line.at("cut").get<std::string>(), {"fox", "zebra"});
  expect_words(run({"tokens", prompt, "--prompt-syntax=raw"}).out,
               {"77 of 77", "not seen by the model, the last 5:", "zebra"});
  EXPECT_EQ(json::parse(run({"tokens", "", "--json"}).out).at("ids"), (json{49406, 49407})) << "an empty prompt is one";
}

TEST_F(Process, TokensOfThePromptLanguage) {
  const std::string prompt = "a (red:1.5) [cat:dog:0.25] AND ((snow, <lora:ink:0.7> BREAK xylophonist :0.5";
  std::vector<json> lines;
  for (const std::string& line : lines_of(run({"tokens", prompt, "--json", "--steps", "8"}).out))
    lines.push_back(json::parse(line));
  ASSERT_EQ(lines.size(), 4u) << "two texts of the first part, two chunks of the second";
  EXPECT_EQ(lines[0].at("up_to_step"), 2);
  EXPECT_EQ(lines[0].at("text"), "a (red:1.5) cat");
  EXPECT_EQ(lines[0].at("weights"), (json{1.0, 1.0, 1.5, 1.0, 1.0}));
  EXPECT_EQ(lines[1].at("up_to_step"), 8);
  EXPECT_EQ(lines[2].at("up_to_step"), nullptr);
  EXPECT_EQ(lines[3].at("part"), 1);
  EXPECT_EQ(lines[3].at("part_weight"), 0.5);
  EXPECT_EQ(lines[3].at("chunk"), 1);
  EXPECT_EQ(lines[0].at("loras"), (json{{{"name", "ink"}, {"text_encoder", 0.7}, {"unet", 0.7}}}));
  EXPECT_EQ(lines[0].at("in_pieces"), json{"xylophonist"});
  EXPECT_EQ(lines[0].at("notes"), json{"2 brackets are not closed: the weight goes on to the end"});
  expect_words(run({"tokens", prompt}).out,
               {"text_encoder, part 1 of 2 (weight 1), up to step 5 \"a (red:1.5) cat\": 5 of 77 tokens", "WEIGHT",
                "part 2 of 2", "chunk 2 of 2", "LoRA ink: text encoder 0.7, U-Net 0.7", "note: 2 brackets"});
}

TEST_F(Process, TokensRefuse) {
  refuses({"tokens"}, {"no prompt", "easel tokens --help"});
  refuses({"tokens", "a\xff", "--jsn"},
          {"--prompt: not valid UTF-8 at byte 1", "unknown option --jsn; nearest: --json"});
  refuses({"tokens", "a", "-p", "b"}, {"--prompt is given 2 times"});
  refuses({"tokens", "a", "-m", "no/such/model"}, {"no/such/model"}, 3);
}

TEST_F(Process, HelpGoesToStandardOutput) {
  for (const char* command : {"forward", "tokens"}) {
    const Result r = run({command, "--help"});
    EXPECT_EQ(r.code, 0);
    EXPECT_EQ(r.err, "");
    expect_words(r.out, {"easel " + std::string(command), "--model"});
  }
}

}  // namespace
}  // namespace easel::testing
