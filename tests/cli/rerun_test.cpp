// easel rerun and easel verify: pictures drawn again from what their PNGs say.
#include "cli/program.h"
#include "easel/image.h"
#include "easel/runtime.h"
#include "pipeline/tiny_checkpoint.h"

namespace easel::testing {
namespace {

namespace fs = std::filesystem;

class Again : public CliTest {
 protected:
  // Of one step and 64x64 pixels, where `more` does not say it; drawn once for all tests, for equal options give equal
  // bytes.
  void original(const std::string& name, const Words& more = {}) const {
    static std::map<Words, std::string> drawn;
    std::string& png = drawn[more];
    if (png.empty()) {
      Words arguments = {"a red fox", "-o", name};
      const auto add = [&](const Words& words) { arguments.insert(arguments.end(), words.begin(), words.end()); };
      add(more);
      if (!names(more, "-s")) add({"-s", "7"});
      if (!names(more, "--steps")) add({"--steps", "1"});
      add({"-W", "64", "-H", "64", "--dtype", "f32", "--device", "cpu"});
      const Result r = run(arguments);
      ASSERT_EQ(r.code, 0) << r.err;
      png = bytes(name);
    }
    make(name, png);
  }

  static bool names(const Words& words, const std::string& option) {
    return std::find(words.begin(), words.end(), option) != words.end();
  }

  Image picture(const std::string& name) const { return read_png(folder_ / name); }

  std::string text(const std::string& name) const {
    for (const PngText& entry : read_png_texts(folder_ / name)) {
      if (entry.keyword == "easel") return entry.text;
    }
    return "";
  }
  json settings(const std::string& name) const { return json::parse(text(name)); }

  // The PNG with another text `easel`.
  void retell(const std::string& name, const std::string& text) const {
    make(name, encode_png(picture(name), {{"easel", text}}));
  }
  void retell(const std::string& name, const std::function<void(json&)>& change) const {
    json object = settings(name);
    change(object);
    retell(name, object.dump());
  }
  // The PNG with other pixels and the same texts.
  void repaint(const std::string& name, const std::function<void(Image&)>& change) const {
    Image image = picture(name);
    change(image);
    make(name, encode_png(image, read_png_texts(folder_ / name)));
  }

  // What `easel rerun` would draw.
  json request(Words arguments, std::string* messages = nullptr) const {
    arguments.insert(arguments.begin(), "rerun");
    arguments.emplace_back("--dry-run");
    const Result r = run(arguments);
    EXPECT_EQ(r.code, 0) << r.err;
    if (messages != nullptr)
      *messages = r.err;
    else
      EXPECT_EQ(r.err, "");
    return r.code == 0 ? json::parse(r.out) : json();
  }

  void tiny(const std::string& model) const { TinyCheckpoints::write(model, folder_ / model); }
  void change_weights(const std::string& model, float bias) const {
    Tensors tensors = part_tensors(model, "unet");
    for (auto& [name, tensor] : tensors) {
      if (name == "conv_out.bias") tensor.fill_(bias);
    }
    write_safetensors(folder_ / model / "unet/diffusion_pytorch_model.safetensors", tensors);
  }
};

using Rerun = Again;
using Verify = Again;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

// ---- rerun --------------------------------------------------------------------------------------------------------

TEST_F(Rerun, EqualsTheOriginalBitForBit) {
  original("a.png", {"-n", "blurry", "--sampler", "euler_a", "--eta", "0.5", "--steps", "2"});
  original("b.png", {"-i", "a.png", "--strength", "1"});
  const Result r = run({"rerun", "a.png", "b.png"});
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.err, "") << "neither the seed nor the model is a choice of this run";
  EXPECT_EQ(r.out, "00000-7.png\n00001-7.png\n");
  EXPECT_EQ(bytes("00000-7.png"), bytes("a.png"));
  EXPECT_EQ(bytes("00001-7.png"), bytes("b.png"));
  EXPECT_NE(picture("a.png").pixels, picture("b.png").pixels);
}

TEST_F(Rerun, GoesWhereGenerateWouldPutIt) {
  original("a.png");
  EXPECT_EQ(run({"rerun", "a.png", "--outdir", "out", "-o", "{index}_{seed}_{prompt:5}_{sampler}_{model}.png"}).out,
            "out/00000_7_a-red_ddim_easel-tiny.png\n");
  EXPECT_EQ(run({"rerun", "a.png", "-o", "a.png"}).code, 2) << "an existing file is kept";
  EXPECT_EQ(run({"rerun", "a.png", "a.png", "-o", "x.png"}).code, 2) << "two pictures, one name";
  EXPECT_EQ(run({"rerun", "a.png", "-o", "a.png", "-s", "8", "--overwrite"}).out, "a.png\n");
  EXPECT_EQ(settings("a.png").at("seed"), 8);

  const Result piped = run({"rerun", "a.png", "-o", "-"});
  make("piped.png", piped.out);
  EXPECT_EQ(bytes("piped.png"), bytes("a.png"));
  EXPECT_EQ(run({"rerun", "a.png", "-o", "bare.png", "--disable-image-metadata"}).code, 0);
  EXPECT_TRUE(read_png_texts(folder_ / "bare.png").empty());
  EXPECT_EQ(picture("bare.png").pixels, picture("a.png").pixels);
}

TEST_F(Rerun, JsonAndProgress) {
  original("a.png");
  const Result r = run({"rerun", "a.png", "--json", "--progress", "json", "-o", "b.png"});
  const json object = json::parse(r.out);
  EXPECT_EQ(object.at("path"), "b.png");
  EXPECT_EQ(object.at("from"), "a.png");
  EXPECT_EQ(object.at("seed"), 7);
  EXPECT_EQ(object.at("request").at("prompt"), "a red fox");
  EXPECT_GE(object.at("timings").at("sample"), 0);
  Words events;
  for (const std::string& line : lines_of(r.err)) events.push_back(json::parse(line).at("event"));
  EXPECT_EQ(events, (Words{"start", "step", "picture", "end"})) << r.err;
}

TEST_F(Rerun, OptionsReplaceWhatIsRecorded) {
  original("a.png");
  const json r = request({"a.png", "-p", "an owl", "-s", "8", "--steps", "3", "-n", "blurry"});
  const json old = settings("a.png");
  EXPECT_EQ(r.at("prompt"), "an owl");
  EXPECT_EQ(r.at("seed"), 8);
  EXPECT_EQ(r.at("steps"), 3);
  EXPECT_EQ(r.at("negative_prompt"), "blurry");
  for (const char* name : {"width", "height", "cfg_scale", "sampler", "scheduler", "model", "device", "dtype"})
    EXPECT_EQ(r.at(name), old.at(name)) << name;

  ASSERT_EQ(draw({"an owl", "-s", "8", "-o", "owl.png"}).code, 0);
  EXPECT_EQ(run({"rerun", "a.png", "-p", "-", "-s", "8", "-o", "again.png"}, {.input = "an owl\n"}).out, "again.png\n");
  EXPECT_EQ(bytes("again.png"), bytes("owl.png"));
}

// Rule 1: what the model gave by itself follows the options.
TEST_F(Rerun, DefaultsFollowTheOptions) {
  tiny("sdxl");
  tiny("sd1");
  original("told.png", {"-m", "sdxl", "--original-size", "512x512"});
  original("by-itself.png", {"-m", "sdxl"});
  EXPECT_EQ(settings("by-itself.png").at("original_size"), "64x64");
  const json wide = request({"by-itself.png", "-W", "128"});
  EXPECT_EQ(wide.at("original_size"), "128x64");
  EXPECT_EQ(wide.at("target_size"), "128x64");
  EXPECT_EQ(request({"told.png", "-W", "128"}).at("original_size"), "512x512");

  original("noisy.png", {"--sampler", "euler_a"});
  EXPECT_EQ(settings("noisy.png").at("eta"), 1);
  EXPECT_EQ(request({"noisy.png", "--sampler", "ddim"}).at("eta"), 0);

  original("tiny.png");  // easel.json's cfg_scale and sampler; v-prediction
  EXPECT_EQ(settings("tiny.png").at("prediction"), "v");
  std::string messages;
  const json other = request({"tiny.png", "-m", "sd1"}, &messages);
  EXPECT_EQ(messages, "");
  EXPECT_EQ(other.at("prediction"), "eps");
  EXPECT_EQ(other.at("cfg_scale"), 7.5);
  EXPECT_EQ(other.at("sampler"), "pndm");
  EXPECT_EQ(other.at("steps"), 1) << "was asked for";
  EXPECT_EQ(other.at("width"), 64) << "was asked for";

  const json from_sdxl = request({"by-itself.png", "-m", "sd1"});
  EXPECT_EQ(from_sdxl.at("clip_skip"), 1);
  EXPECT_FALSE(from_sdxl.contains("original_size"));
}

// Rule 2: what was asked for and does not go with the options is left out, which is said.
TEST_F(Rerun, WhatDoesNotGoWithTheOptionsIsLeftOut) {
  original("eta.png", {"--sampler", "euler_a", "--eta", "0.5"});
  std::string messages;
  EXPECT_FALSE(request({"eta.png", "--sampler", "euler"}, &messages).contains("eta"));
  expect_words(messages, {"eta.png: left out of what was recorded: --eta has no effect: the sampler euler has none"});
  EXPECT_EQ(request({"eta.png", "--sampler", "ddim"}).at("eta"), 0.5) << "it goes with this one";

  original("karras.png", {"--sampler", "DPM++ 2M Karras", "-n", "blurry"});
  EXPECT_EQ(request({"karras.png", "--sampler", "euler"}).at("scheduler"), "karras");
  EXPECT_EQ(request({"karras.png", "--sampler", "DPM++ 2M Exponential"}, &messages).at("scheduler"), "exponential");
  expect_words(messages, {"--scheduler karras"});
  const json sigmas = request({"karras.png", "--sigmas", "14,3,0"}, &messages);
  EXPECT_EQ(sigmas.at("steps"), 2);
  EXPECT_EQ(sigmas.at("scheduler"), "model");
  expect_words(messages, {"--steps 1", "--scheduler has no effect"});
  EXPECT_FALSE(request({"karras.png", "--cfg-scale", "1"}, &messages).contains("negative_prompt"));
  expect_words(messages, {"--negative-prompt has no effect"});

  ASSERT_EQ(run({"rerun", "eta.png", "--sampler", "euler", "-q"}).err, "");
  const std::string said = run({"rerun", "eta.png", "eta.png", "--sampler", "euler", "--dry-run"}).err;
  EXPECT_EQ(count(said, "--eta"), 1u) << said;
  expect_words(said, {"eta.png and 1 more"});
}

TEST_F(Rerun, OptionsWithoutEffectAreRefused) {
  original("plain.png", {"--cfg-scale", "1"});
  const Result r = run({"rerun", "plain.png", "-n", "blurry"});
  EXPECT_EQ(r.code, 2);
  EXPECT_EQ(r.out, "");
  expect_words(r.err, {"plain.png: --negative-prompt has no effect"});
  EXPECT_EQ(run({"rerun", "plain.png", "--refiner-start", "0.5"}).code, 2);
  const Result both = run({"rerun", "plain.png", "missing.png", "-n", "blurry"});
  EXPECT_EQ(both.code, 2) << "of two kinds the lower";
  expect_words(both.err, {"plain.png: --negative-prompt has no effect", "missing.png: cannot be read"});
}

TEST_F(Rerun, RecordedSettingsCanBeTakenBack) {
  original("a.png", {"-n", "blurry", "--hires", "2", "--hires-strength", "0.9", "--vae-tiling", "--steps", "2"});
  std::string messages;
  const json r = request({"a.png", "--without", "negative-prompt,hires", "--without", "vae_tiling"}, &messages);
  for (const char* name : {"negative_prompt", "hires", "hires_steps", "hires_strength", "vae_tiling"})
    EXPECT_FALSE(r.contains(name)) << name;
  expect_words(messages, {"--hires-strength has no effect without --hires"});
  EXPECT_EQ(count(messages, "\n"), 1u) << messages;

  const Result bad = run({"rerun", "a.png", "--without", "seed,hirse,negative_prompt", "-n", "x"});
  EXPECT_EQ(bad.code, 2);
  expect_words(bad.err, {"\"seed\"", "\"hirse\": no setting", "hires", "negative_prompt: it is given as well"});
}

TEST_F(Rerun, Usage) {
  original("a.png");
  EXPECT_EQ(run({"rerun"}).code, 2);
  EXPECT_EQ(run({"rerun", "a.png", "a.png", "-o", "-"}).code, 2);
  EXPECT_EQ(run({"rerun", "a.png", "--json", "-o", "-"}).code, 2);
  EXPECT_EQ(run({"rerun", "a.png", "-b", "2"}).code, 2);
  const Result r = run({"rerun", "missing.png", "--sampler", "nix", "-W", "63", "--progress", "x"});
  EXPECT_EQ(r.code, 2);
  EXPECT_EQ(r.out, "");
  expect_words(r.err, {"'nix'", "--width \"63\"", "--progress 'x'", "easel rerun --help"});
  EXPECT_EQ(r.err.find("missing.png"), std::string::npos) << "usage comes before files";
  const Result help = run({"rerun", "--help"});
  EXPECT_EQ(help.code, 0);
  expect_words(help.out, {"Usage: easel rerun [options] PNG...", "--without", "--sampler", "--outdir"});
  EXPECT_EQ(help.out.find("--png"), std::string::npos);
}

// ---- models -------------------------------------------------------------------------------------------------------

TEST_F(Rerun, AModelThatIsGone) {
  tiny("sd1");
  original("a.png", {"-m", "sd1"});
  fs::rename(folder_ / "sd1", folder_ / "moved");
  for (const char* command : {"rerun", "verify"}) {
    const Result r = run({command, "a.png"});
    EXPECT_EQ(r.code, 3) << command;
    EXPECT_EQ(r.out, "");
    expect_words(r.err, {"a.png: no model at sd1", "-m"});
  }
  const Result found = run({"rerun", "a.png", "-m", "moved", "-o", "b.png"});
  EXPECT_EQ(found.code, 0);
  EXPECT_EQ(found.err, "") << "it is the recorded one";
  EXPECT_EQ(picture("b.png").pixels, picture("a.png").pixels);
  EXPECT_EQ(run({"verify", "a.png", "-m", "moved"}).out, "a.png: same, PSNR inf dB, largest difference 0\n");

  std::string messages;
  tiny("sd2");
  const json other = request({"a.png", "-m", "sd2"}, &messages);
  expect_words(messages, {"the recorded model sd1 is not here, so its defaults are not known"});
  EXPECT_EQ(other.at("prediction"), "v");
  EXPECT_EQ(other.at("clip_skip"), 2);
  EXPECT_EQ(other.at("sampler"), "pndm");
}

TEST_F(Rerun, AModelThatIsAnotherOneNow) {
  tiny("sd1");
  original("a.png", {"-m", "sd1"});
  change_weights("sd1", 30);
  const Result again = run({"rerun", "a.png", "a.png"});
  EXPECT_EQ(again.code, 0);
  EXPECT_EQ(count(again.err, "warning: a.png: the model is another one: hash "), 1u) << again.err;
  expect_words(again.err, {", recorded " + settings("a.png").at("model_hash").get<std::string>().substr(0, 10)});

  const Result r = run({"verify", "a.png"});
  EXPECT_EQ(r.code, 6);
  EXPECT_TRUE(r.out.starts_with("a.png: different, PSNR ")) << r.out;
  expect_words(r.out, {", the model is another one: hash "});
  const json object = json::parse(run({"verify", "a.png", "--json"}).out);
  EXPECT_EQ(object.at("other_models").size(), 1u);
  EXPECT_EQ(run({"rerun", "a.png", "-m", "sd1", "-o", "b.png"}).err, "") << "this model was asked for";
}

TEST_F(Rerun, APictureThatFails) {
  tiny("sd1");
  original("a.png", {"-m", "sd1"});
  original("b.png");
  change_weights("sd1", 3e38F);
  for (const char* command : {"rerun", "verify"}) {
    const Result r = run({command, "a.png", "b.png"});
    EXPECT_EQ(r.code, 5) << command << r.err;
    EXPECT_EQ(lines_of(r.out).size(), 1u) << "the other one is drawn: " << r.out;
    expect_words(r.err, {"error: a.png: ", "1 of 2 pictures failed"});
  }
}

TEST_F(Rerun, APictureOfAMachineWithCuda) {
  if (!cuda_devices().empty()) GTEST_SKIP() << "this machine has CUDA";
  original("a.png");
  retell("a.png", [](json& object) { object["device"] = "cuda:0"; });
  for (const char* command : {"rerun", "verify"}) {
    const Result r = run({command, "a.png"});
    EXPECT_EQ(r.code, 3) << r.err;
    expect_words(r.err, {"a.png: --device cuda:0: ", "--device cpu"});
  }
  EXPECT_EQ(run({"verify", "a.png", "--device", "cpu"}).out, "a.png: same, PSNR inf dB, largest difference 0\n");
  EXPECT_EQ(run({"rerun", "a.png", "--device", "cpu", "-o", "b.png"}).code, 0);
  EXPECT_EQ(settings("b.png").at("device"), "cpu");
}

// ---- metadata from strangers --------------------------------------------------------------------------------------

TEST_F(Rerun, PicturesWithoutSettings) {
  original("bare.png", {"--disable-image-metadata"});
  original("a.png");
  make("foreign.png", encode_png(picture("a.png"), {{"parameters", "a red fox\nSteps: 1, Seed: 7"}}));
  make("text.png", "not a picture");
  for (const char* command : {"rerun", "verify"}) {
    const Result r = run({command, "a.png", "bare.png", "foreign.png", "text.png", "missing.png"});
    EXPECT_EQ(r.code, 3);
    EXPECT_EQ(r.out, "") << "nothing is drawn before all can be";
    expect_words(r.err, {"bare.png: it has no text 'easel', so it was not drawn by easel or with "
                         "--disable-image-metadata",
                         "foreign.png: it has no text 'easel'", "text.png: ", "missing.png: "});
  }
  expect_words(run({"rerun", "foreign.png"}).err, {"'parameters', of another program"});
}

struct Hostile {
  const char* name;
  std::string text;
  Words said;
};

TEST_F(Rerun, DamagedSettings) {
  original("a.png");
  const json whole = settings("a.png");
  const auto with = [&](const char* name, const json& value) {
    json object = whole;
    object[name] = value;
    return object.dump();
  };
  const std::string deep(100'000, '[');
  const std::vector<Hostile> all = {
      {"no-json", "seed: 7", {"its text 'easel' is no JSON object"}},
      {"cut", text("a.png").substr(0, 100), {"its text 'easel' is no JSON object"}},
      {"array", "[7]", {"its text 'easel' is no JSON object"}},
      {"deep",
       R"({"prompt": "a", "x": )" + deep + std::string(deep.size(), ']') + "}",
       {"its text 'easel' is no JSON object"}},
      {"nul", with("prompt", std::string("a\0b", 3)), {"its text 'easel' is no JSON object"}},
      {"large", R"({"eta": 1e999})", {"its text 'easel' is no JSON object"}},
      {"empty",
       "{}",
       {"its text 'easel' has no prompt", "its text 'easel' has no seed", "its text 'easel' has no model",
        "its text 'easel' has no device", "its text 'easel' has no dtype"}},
      {"null", with("seed", nullptr), {"its text 'easel' has no seed"}},
      {"words", with("dtype", "f99"), {"its recorded dtype"}},
      {"type", with("steps", "9"), {"its recorded steps"}},
      {"size", with("width", 63), {"its recorded width \"63\": expected a multiple of 8"}},
      {"path", with("model", ""), {"its recorded model is empty"}},
      {"hash", with("model_hash", 7), {"its recorded model_hash 7"}},
      {"versions", with("versions", "1"), {"its recorded versions \"1\": expected an object"}},
      {"version", with("versions", {{"easel", 1}}), {"its recorded version of easel 1"}},
      {"device", with("device", "gpu"), {"its recorded device \"gpu\""}},
      {"sampler", with("sampler", "nix"), {"unknown sampler 'nix'"}},
      {"effect", with("crop", "0,0"), {"--crop has no effect"}},
  };
  Words names;
  for (const Hostile& hostile : all) {
    make(std::string(hostile.name) + ".png", encode_png(picture("a.png"), {{"easel", hostile.text}}));
    names.push_back(std::string(hostile.name) + ".png");
  }
  const std::size_t half = names.size() / 2;  // of more than 20 faults the rest is counted
  for (const char* command : {"rerun", "verify"}) {
    for (const bool first : {true, false}) {
      Words arguments = {command};
      arguments.insert(arguments.end(), first ? names.begin() : names.begin() + static_cast<int64_t>(half),
                       first ? names.begin() + static_cast<int64_t>(half) : names.end());
      const Result r = run(arguments);
      EXPECT_EQ(r.code, 3) << "of several kinds the lowest: none is 2\n" << r.err;
      EXPECT_EQ(r.out, "");
      for (std::size_t i = first ? 0 : half; i < (first ? half : names.size()); ++i) {
        for (const std::string& said : all[i].said)
          EXPECT_NE(r.err.find("easel: error: " + names[i] + ": " + said), std::string::npos)
              << names[i] << ": " << said << "\n"
              << r.err;
      }
    }
  }
}

TEST_F(Rerun, SettingsOfANewerProgram) {
  original("a.png");
  const Image image = picture("a.png");
  retell("a.png", [](json& object) {
    object["versions"]["easel"] = "9.9";
    object["dream_mode"] = {{"depth", 3}};
  });
  for (const char* command : {"rerun", "verify"}) {
    const Result r = run({command, "a.png"});
    EXPECT_EQ(r.code, 0);
    expect_words(r.err, {"warning: a.png: easel 9.9 recorded settings that this one", "left out: dream_mode"});
  }
  EXPECT_EQ(picture("00000-7.png").pixels, image.pixels);
}

// ---- verify -------------------------------------------------------------------------------------------------------

TEST_F(Verify, SameCloseDifferent) {
  original("same.png");
  for (const char* name : {"close.png", "different.png", "cut.png"}) make(name, bytes("same.png"));
  repaint("close.png", [](Image& image) { image.pixels[100] ^= 1; });
  repaint("different.png", [](Image& image) {
    for (std::size_t i = 0; i < image.pixels.size(); i += 3) image.pixels[i] ^= 0x80;
  });
  repaint("cut.png", [](Image& image) { image = crop(image, 0, 0, 32, 64); });

  // By hand: one step in 64 · 64 · 3 values, a third of them 128 off.
  const std::string same = "same.png: same, PSNR inf dB, largest difference 0\n",
                    close = "close.png: close, PSNR 89.03 dB, largest difference 1\n",
                    different = "different.png: different, PSNR 10.76 dB, largest difference 128\n";
  const Result good = run({"verify", "same.png", "close.png"});
  EXPECT_EQ(good.code, 0);
  EXPECT_EQ(good.out, same + close);
  EXPECT_EQ(good.err, "");
  EXPECT_EQ(run({"verify", "--strict", "same.png"}).code, 0);
  const Result strict = run({"verify", "--strict", "same.png", "close.png"});
  EXPECT_EQ(strict.code, 6);
  EXPECT_EQ(strict.out, same + close);
  expect_words(strict.err, {"1 of 2 pictures are not the same"});

  const Result bad = run({"verify", "different.png", "cut.png", "same.png"});
  EXPECT_EQ(bad.code, 6);
  EXPECT_EQ(bad.out, different + "cut.png: different, it is 32x64, expected 64x64\n" + same);
  expect_words(bad.err, {"2 of 3 pictures are different"});
  EXPECT_EQ(files(), (Words{"close.png", "cut.png", "different.png", "same.png"})) << "verify writes nothing";
}

// 40 dB is a mean square of 6.5025, in sum over 64 · 64 · 3 values 79902.7: 312.1 values that are 16 off.
TEST_F(Verify, FortyDecibelsAreClose) {
  original("a.png");
  const auto add = [](std::size_t values) {
    return [values](Image& image) {
      for (std::size_t i = 0; i < values; ++i) image.pixels[i] = static_cast<uint8_t>(image.pixels[i] ^ 0x10);
    };
  };
  make("b.png", bytes("a.png"));
  repaint("a.png", add(312));
  repaint("b.png", add(313));
  EXPECT_EQ(run({"verify", "a.png"}).out, "a.png: close, PSNR 40.00 dB, largest difference 16\n");
  EXPECT_EQ(run({"verify", "b.png"}).out, "b.png: different, PSNR 39.99 dB, largest difference 16\n");
}

TEST_F(Verify, Json) {
  original("a.png");
  make("b.png", bytes("a.png"));
  repaint("b.png", [](Image& image) { image.pixels[100] ^= 3; });
  const Words lines = lines_of(run({"verify", "a.png", "b.png", "--json", "-q"}).out);
  ASSERT_EQ(lines.size(), 2u);
  json same = json::parse(lines[0]), close = json::parse(lines[1]);
  EXPECT_EQ(same.at("versions"), settings("a.png").at("versions"));
  same.erase("versions");
  EXPECT_EQ(same, json::parse(R"({"path": "a.png", "verdict": "same", "psnr": null, "largest": 0, "mean": 0.0,
                                  "other_models": []})"));
  EXPECT_EQ(close.at("verdict"), "close");
  EXPECT_GT(close.at("psnr"), 70);
  EXPECT_GE(close.at("largest"), 1);
}

TEST_F(Verify, Junit) {
  original("a.png");
  make("b.png", bytes("a.png"));
  repaint("b.png", [](Image& image) { image = crop(image, 0, 0, 32, 64); });
  EXPECT_EQ(run({"verify", "a.png", "b.png", "--junit", "r.xml"}).code, 6);
  expect_words(bytes("r.xml"), {"tests=\"2\" failures=\"1\" errors=\"0\"", "name=\"a.png\"", "name=\"b.png\"",
                                "<failure message=\"different, it is 32x64, expected 64x64\">"});
  EXPECT_EQ(run({"verify", "a.png", "--junit", "missing/r.xml"}).code, 3);
}

TEST_F(Verify, TellsOtherVersionsWhereThePictureDiffers) {
  original("a.png");
  retell("a.png", [](json& object) { object["versions"]["libtorch"] = "1.0"; });
  EXPECT_EQ(run({"verify", "a.png"}).err, "");
  repaint("a.png", [](Image& image) { image.pixels[0] ^= 1; });
  expect_words(run({"verify", "a.png"}).err, {"a.png: drawn with libtorch 1.0, this is "});
}

TEST_F(Verify, Usage) {
  original("a.png");
  EXPECT_EQ(run({"verify"}).code, 2);
  for (const Words& other : {Words{"-s", "8"}, {"--sampler", "euler"}, {"-W", "128"}, {"-o", "x.png"}}) {
    Words arguments = {"verify", "a.png"};
    arguments.insert(arguments.end(), other.begin(), other.end());
    const Result r = run(arguments);
    EXPECT_EQ(r.code, 2) << other[0] << ": another picture is no verification";
    EXPECT_EQ(r.out, "");
  }
  expect_words(run({"verify", "--help"}).out, {"Usage: easel verify [options] PNG...", "--strict", "-m", "--junit"});
}

// The start picture may have moved as the model may.
TEST_F(Verify, PicturesThatMoved) {
  original("in.png");
  original("a.png", {"-i", "in.png", "--strength", "1", "-s", "9"});
  fs::rename(folder_ / "in.png", folder_ / "moved.png");
  EXPECT_EQ(run({"verify", "a.png"}).code, 3);
  EXPECT_EQ(run({"verify", "a.png", "-i", "moved.png"}).out, "a.png: same, PSNR inf dB, largest difference 0\n");
}

}  // namespace
}  // namespace easel::testing
