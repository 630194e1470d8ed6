// Pictures by the bundled model: where they go, what is said, what repeats.
#include "cli/program.h"
#include "easel/image.h"
#include "easel/pipeline.h"

namespace easel::testing {
namespace {

class Pictures : public CliTest {
 protected:
  Image picture(const std::string& name) const { return read_png(folder_ / name); }
  std::string text(const std::string& name, const std::string& keyword) const {
    for (const PngText& entry : read_png_texts(folder_ / name)) {
      if (entry.keyword == keyword) return entry.text;
    }
    return "";
  }
};

TEST_F(Pictures, StandardOutputIsThePathAlone) {
  const Result r = draw({"a red fox", "-o", "fox.png"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "fox.png\n");
  EXPECT_EQ(files(), Words{"fox.png"});
  EXPECT_EQ(picture("fox.png").width, 64);
  EXPECT_EQ(picture("fox.png").height, 64);
}

TEST_F(Pictures, ACommandRunTwiceMakesTwoFiles) {
  const Result first = draw({"a", "-s", "0"}), second = draw({"a", "-s", "0"});
  EXPECT_EQ(first.out, "00000-0.png\n") << first.err;
  EXPECT_EQ(second.out, "00001-0.png\n") << second.err;
  EXPECT_EQ(first.err.find("random"), std::string::npos) << "seed 0 is a seed";
  EXPECT_EQ(bytes("00000-0.png"), bytes("00001-0.png"));
}

TEST_F(Pictures, PictureKHasSeedSPlusK) {
  const Result batch = draw({"a", "-s", "7", "-b", "3", "--outdir", "out/deep"});
  EXPECT_EQ(batch.out, "out/deep/00000-7.png\nout/deep/00001-8.png\nout/deep/00002-9.png\n") << batch.err;
  draw({"a", "-s", "8", "-o", "alone.png"});
  EXPECT_EQ(bytes("alone.png"), bytes("out/deep/00001-8.png"));
  EXPECT_NE(picture("alone.png").pixels, picture("out/deep/00002-9.png").pixels);
}

TEST_F(Pictures, TheRandomSeedIsSaidAndStored) {
  const Result r = draw({"a"});
  ASSERT_EQ(files().size(), 1u) << r.err;
  const std::string name = files().front();
  const std::string seed = name.substr(6, name.size() - 10);
  expect_words(r.err, {"seed " + seed + ", drawn at random"});
  EXPECT_EQ(json::parse(text(name, "easel")).at("seed").dump(), seed);
  draw({"a", "-s", seed, "-o", "again.png"});
  EXPECT_EQ(bytes("again.png"), bytes(name));
}

TEST_F(Pictures, OverwriteReplaces) {
  make("x.png", "old");
  EXPECT_EQ(draw({"a", "-o", "x.png", "--overwrite"}).out, "x.png\n");
  EXPECT_EQ(picture("x.png").width, 64);
}

TEST_F(Pictures, Templates) {
  const Result r = draw({"a red fox", "별 밤", "-s", "5", "--sampler", "Euler a", "--outdir", "out", "-o",
                         "{index}_{seed}_{prompt:6}_{sampler}_{model}.png"});
  EXPECT_EQ(r.out, "out/00000_5_a-red_euler_a_easel-tiny.png\nout/00001_5_별-밤_euler_a_easel-tiny.png\n") << r.err;
}

TEST_F(Pictures, JsonResultsAndQuiet) {
  const Result r = draw({"a", "-b", "2", "--json", "-q"});
  EXPECT_EQ(r.err, "");
  const Words lines = lines_of(r.out);
  ASSERT_EQ(lines.size(), 2u) << r.err;
  const json object = json::parse(lines[1]);
  EXPECT_EQ(object.at("index"), 1);
  const uint64_t seed = object.at("seed");
  EXPECT_EQ(object.at("path"), "00001-" + std::to_string(seed) + ".png");
  EXPECT_EQ(object.at("request").at("seed"), seed);
  EXPECT_EQ(object.at("request").at("prompt"), "a");
  EXPECT_EQ(object.at("request").at("steps"), 1);
  for (const char* stage : {"load", "encode", "sample", "decode", "save"})
    EXPECT_GE(object.at("timings").at(stage), 0) << stage;
}

TEST_F(Pictures, Metadata) {
  EXPECT_EQ(draw({"a fox: \"별\"", "-s", "1", "-n", "blurry", "-o", "with.png"}).code, 0);
  EXPECT_EQ(draw({"a fox: \"별\"", "-s", "1", "-n", "blurry", "-o", "without.png", "--disable-image-metadata"}).code,
            0);
  EXPECT_TRUE(read_png_texts(folder_ / "without.png").empty());
  EXPECT_EQ(picture("with.png").pixels, picture("without.png").pixels);
  EXPECT_TRUE(text("with.png", "parameters").starts_with("a fox: \"별\"\nNegative prompt: blurry\nSteps: 1, "));
  const json exact = json::parse(text("with.png", "easel"));
  EXPECT_EQ(exact.at("model_hash").get<std::string>().size(), 64u);
  // Everything that this picture depends on: read back, it is a whole request.
  const Words others = {"prompt_2", "negative_prompt_2", "sigmas", "timesteps", "original_size", "crop", "target_size",
                        "aesthetic_score", "negative_aesthetic_score", "vae", "refiner", "refiner_start",
                        // of pictures that begin with one, and of large ones
                        "init_img", "strength", "resize", "mask", "invert_mask", "mask_blur", "inpaint_full_res",
                        "inpaint_padding", "no_paste_back", "outpaint", "hires", "hires_upscaler", "hires_steps",
                        "hires_strength", "vae_tiling", "vae_tiling_fast", "cache",
                        // of pictures with adapters
                        "embd_dir", "lora", "lora_dir", "lora_apply", "lora_partial", "control_net", "control_image",
                        "control_strength", "control_start", "control_end", "control_guess", "canny", "canny_low",
                        "canny_high"};
  for (const RequestField& field : request_fields()) {
    const bool has_no_eta = field.name == "eta" && !find_sampler(exact.at("sampler").get<std::string>()).has_eta;
    const bool of_other_models = std::find(others.begin(), others.end(), field.name) != others.end();
    EXPECT_EQ(exact.contains(field.name), !has_no_eta && !of_other_models) << field.name;
  }
}

TEST_F(Pictures, ToStandardOutput) {
  const Result r = draw({"a", "-s", "1", "-o", "-"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(files(), Words{});
  make("piped.png", r.out);
  EXPECT_EQ(picture("piped.png").width, 64);
}

TEST_F(Pictures, ProgressAsJson) {
  // So large that a picture is saved, beside the next one's steps, long before the first of them ends.
  const Result good =
      run({"a", "-s", "1", "-b", "2", "--steps=2", "-W256", "-H256", "--sampler", "ddim", "--progress", "json", "-q"});
  Words events;
  for (const std::string& line : lines_of(good.err)) events.push_back(json::parse(line).at("event"));
  EXPECT_EQ(events, (Words{"start", "step", "step", "picture", "step", "step", "picture", "end"})) << good.err;
  const Words lines = lines_of(good.err);
  ASSERT_EQ(lines.size(), 8u);
  EXPECT_EQ(json::parse(lines[2]).at("step"), 2);
  EXPECT_EQ(json::parse(lines[2]).at("steps"), 2);
  EXPECT_EQ(json::parse(lines[6]),
            json::parse(R"({"event": "picture", "index": 1, "path": "00001-2.png", "seed": 2})"));
  EXPECT_EQ(json::parse(lines[7]), json::parse(R"({"event": "end", "finished": 2, "pictures": 2})"));
}

TEST_F(Pictures, ABarOnATerminalAndNothingElsewhere) {
  const Words arguments = {"a", "-s1", "-b2", "--steps=3", "-W64", "-H64", "-m", EASEL_SOURCE_DIR "/models/easel-tiny"};
  const Result terminal = run(arguments, {.error_terminal = true});
  EXPECT_EQ(terminal.code, 0);
  expect_words(terminal.err, {"picture 2/2  [#", "#]  3/3  ", "ETA 0:00"});
  std::istringstream redrawn(terminal.err);
  for (std::string line; std::getline(redrawn, line, '\r');)
    EXPECT_LT(line.size(), 60u + 3u) << "wider than the terminal";
  EXPECT_TRUE(terminal.err.ends_with("\r\x1b[K")) << "the bar is cleared at the end";
  EXPECT_EQ(run(arguments).err, "");
}

TEST_F(Pictures, EmptyAndEndlessPrompts) {
  EXPECT_EQ(draw({"-p", "", "-s", "1"}).out, "00000-1.png\n");
  std::string words;
  for (int i = 0; i < 10'000; ++i) words += "owl ";
  const Result chunks = draw({"-p", "-", "-s", "1", "-o", "{prompt:20}-{seed}.png"}, {.input = words});
  EXPECT_EQ(chunks.out, "owl-owl-owl-owl-owl-1.png\n") << chunks.err;
  const Result cut = draw({"-p", "-", "-s", "2", "--prompt-syntax", "raw"}, {.input = words});
  EXPECT_EQ(cut.out, "00001-2.png\n");
  expect_words(cut.err.substr(0, 300), {"not seen by the model", "owl"});
}

}  // namespace
}  // namespace easel::testing
