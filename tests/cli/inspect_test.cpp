// easel inspect: what it says of folders, files and pictures, as text and as JSON.
#include "cli/program.h"
#include "easel/image.h"
#include "pipeline/tiny_checkpoint.h"
#include "support/taesd.h"

namespace easel::testing {
namespace {

namespace fs = std::filesystem;

class Inspect : public CliTest {
 protected:
  json facts(const std::string& path) const {
    const Result r = run({"inspect", path, "--json"});
    EXPECT_EQ(r.code, 0) << path << ": " << r.err;
    EXPECT_EQ(r.err, "");
    return json::parse(r.out);
  }
  std::string text(const std::string& path) const {
    const Result r = run({"inspect", path});
    EXPECT_EQ(r.code, 0) << path << ": " << r.err;
    return r.out;
  }
  fs::path tiny(const std::string& model) const {
    TinyCheckpoints::write(model, folder_ / model);
    return folder_ / model;
  }
};

struct Expected {
  std::string file, kind, family, prediction;
  std::size_t parts;
};

// Every family and kind, from the real program.
TEST_F(Inspect, NamesEveryKind) {
  for (const char* model : {"sd1", "sd2", "sdxl", "sdxl-refiner"}) {
    tiny(model);
    ASSERT_EQ(run({"convert", model, std::string(model) + ".safetensors"}).code, 0);
  }
  const auto write = [&](const std::string& name, const std::string& tensor, const Shape& shape) {
    write_safetensors(folder_ / name, {{tensor, at::zeros(shape)}});
  };
  write("kohya", "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", {4, 768});
  write("peft", "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", {4, 2048});
  write("embedding", "emb_params", {2, 768});
  write("controlnet", "controlnet_cond_embedding.conv_in.weight", {16, 3, 3, 3});
  write("flux", "double_blocks.0.img_attn.qkv.weight", {4, 4});
  write("unknown", "x", {4, 4});
  const std::vector<Expected> all = {{"sd1", "folder", "sd1", "eps", 3},
                                     {"sd2", "folder", "sd2", "v", 3},
                                     {"sdxl", "folder", "sdxl", "eps", 4},
                                     {"sdxl-refiner", "folder", "sdxl-refiner", "eps", 3},
                                     {"sd1.safetensors", "checkpoint", "sd1", "eps", 3},
                                     {"sd2.safetensors", "checkpoint", "sd2", "v", 3},
                                     {"sdxl.safetensors", "checkpoint", "sdxl", "eps", 4},
                                     {"sdxl-refiner.safetensors", "checkpoint", "sdxl-refiner", "eps", 3},
                                     {"sd1/unet", "unet", "", "eps", 1},
                                     {"sd1/vae", "vae", "", "", 1},
                                     {"sdxl/vae/diffusion_pytorch_model.safetensors", "vae", "", "", 1},
                                     {"sd1/text_encoder", "text_encoder", "", "", 1},
                                     {"kohya", "lora", "sd1", "", 0},
                                     {"peft", "lora", "sdxl", "", 0},
                                     {"embedding", "textual_inversion", "sd1", "", 0},
                                     {"controlnet", "controlnet", "", "", 1},
                                     {"flux", "other", "", "", 0},
                                     {"unknown", "other", "", "", 0}};
  Words arguments = {"inspect", "--json"};
  for (const Expected& expected : all) arguments.push_back(expected.file);
  const Result r = run(arguments);
  ASSERT_EQ(r.code, 0) << r.err;
  const Words lines = lines_of(r.out);
  ASSERT_EQ(lines.size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Expected& expected = all[i];
    const json found = json::parse(lines[i]);
    EXPECT_EQ(found.at("path"), expected.file);
    EXPECT_EQ(found.at("kind"), expected.kind) << expected.file;
    EXPECT_EQ(found.value("family", ""), expected.family) << expected.file;
    EXPECT_EQ(found.value("prediction", ""), expected.prediction) << expected.file;
    EXPECT_EQ(found.at("parts").size(), expected.parts) << expected.file;
    // A lone file has its family's config at best.
    if (expected.file.find("vae/") != std::string::npos || expected.file == "controlnet") continue;
    for (const json& part : found.at("parts")) {
      EXPECT_EQ(part.at("missing"), json::array()) << expected.file << " " << part.at("name");
      EXPECT_EQ(part.at("misfit"), json::array()) << expected.file << " " << part.at("name");
      EXPECT_EQ(part.at("unexpected"), json::array()) << expected.file << " " << part.at("name");
      EXPECT_FALSE(part.contains("not_checked")) << expected.file << ": " << part.dump();
    }
  }
  expect_words(text("flux"), {"flux: Flux\n", "kind     other"});
}

TEST_F(Inspect, TheBundledModel) {
  const json found = facts("easel-tiny");
  EXPECT_EQ(found.at("kind"), "folder");
  EXPECT_EQ(found.at("width"), 128);
  EXPECT_EQ(found.at("height"), 128);
  EXPECT_EQ(found.at("in_channels"), 8);
  EXPECT_EQ(found.at("defaults"), read(fs::path(EASEL_SOURCE_DIR) / "models/easel-tiny/easel.json"));
  for (const json& part : found.at("parts")) {
    const SourcePtr source = open_safetensors(fs::path(EASEL_SOURCE_DIR) / "models/easel-tiny" / part.at("name") /
                                              (stem_of(part.at("name")) + ".safetensors"));
    int64_t parameters = 0;
    for (const std::string& name : source->names()) parameters += source->load(name).numel();
    EXPECT_EQ(part.at("parameters"), parameters);
    EXPECT_EQ(part.at("dtypes"), (json{{"f16", source->names().size()}}));
    EXPECT_EQ(part.at("bytes"), 2 * parameters);
  }
  expect_words(text("easel-tiny"), {"Stable Diffusion 1.x", "size        128x128", "prediction  v", "defaults",
                                    "unet          diffusers  "});
}

TEST_F(Inspect, WhatIsMissingAndWhatIsTooMuch) {
  const fs::path folder = tiny("sd1");
  Tensors vae = part_tensors("sd1", "vae");
  std::erase_if(vae, [](const auto& entry) { return entry.first == "decoder.conv_in.bias"; });
  vae.emplace_back("decoder.nobody.weight", at::ones(1));
  for (auto& [name, tensor] : vae) {
    if (name == "encoder.conv_in.bias") tensor = at::ones(3);
  }
  write_safetensors(folder / "vae/diffusion_pytorch_model.safetensors", vae);
  const json part = facts("sd1").at("parts").back();
  ASSERT_EQ(part.at("name"), "vae");
  ASSERT_EQ(part.at("missing").size(), 1u);
  expect_words(part.at("missing")[0], {"decoder.conv_in.bias"});
  ASSERT_EQ(part.at("misfit").size(), 1u);
  expect_words(part.at("misfit")[0], {"encoder.conv_in.bias is [3], expected"});
  EXPECT_EQ(part.at("unexpected"), json{"decoder.nobody.weight"});
  expect_words(text("sd1"),
               {"vae: missing tensor decoder.conv_in.bias", "vae: unexpected tensor decoder.nobody.weight"});
}

// TAESD's files lack a config: its numbers are read off the tensors, of which none is missing or too much.
TEST_F(Inspect, ASmallVae) {
  write_safetensors(folder_ / "taesd", taesd_tensors(0));
  for (const std::string network : {"decoder", "encoder"})
    write_safetensors(folder_ / network, taesd_by_author(0, network));
  for (const auto& [file, title] :
       std::map<std::string, std::string>{{"taesd", "small VAE (TAESD)"},
                                          {"decoder", "small VAE (TAESD), decoder alone"},
                                          {"encoder", "small VAE (TAESD), encoder alone"}}) {
    const json all = facts(file);
    EXPECT_EQ(all.at("kind"), "vae");
    EXPECT_EQ(all.at("title"), title);
    const json& part = all.at("parts").at(0);
    EXPECT_EQ(part.at("naming"), file == "taesd" ? "diffusers" : "taesd");
    EXPECT_EQ(part.contains("not_checked"), file == "encoder") << part;
    for (const char* fault : {"missing", "misfit", "unexpected"}) EXPECT_EQ(part.at(fault), json::array()) << part;
  }
}

TEST_F(Inspect, APicturesSettings) {
  ASSERT_EQ(draw({"a cat", "-n", "a dog", "-s", "5", "-o", "cat.png"}).code, 0);
  const json found = facts("cat.png");
  EXPECT_EQ(found.at("kind"), "picture");
  EXPECT_EQ(found.at("width"), 64);
  EXPECT_EQ(found.at("easel").at("prompt"), "a cat");
  EXPECT_EQ(found.at("easel").at("seed"), 5);
  expect_words(found.at("parameters"), {"a cat", "Negative prompt: a dog", "Steps: 1"});
  expect_words(text("cat.png"), {"a picture of 64x64", "prompt", "a cat", "seed"});

  const Image image = {.width = 2, .height = 1, .pixels = std::vector<uint8_t>(6)};
  make("webui.png", encode_png(image, {{"parameters", "a dog\nSteps: 20, Sampler: Euler a"}}));
  expect_words(text("webui.png"), {"a picture of 2x1", "Sampler: Euler a"});
  EXPECT_FALSE(facts("webui.png").contains("easel"));
  make("plain.png", encode_png(image, {}));
  expect_words(text("plain.png"), {"it carries no settings"});
  make("broken.png", encode_png(image, {{"easel", "{"}}));
  EXPECT_EQ(run({"inspect", "broken.png"}).code, 3);
}

TEST_F(Inspect, Usage) {
  const auto refuses = [&](const Words& arguments, int code, const Words& words) {
    const Result r = run(arguments);
    EXPECT_EQ(r.code, code) << r.err;
    EXPECT_EQ(r.out, "");
    expect_words(r.err, words);
  };
  refuses({"inspect"}, 2, {"nothing to inspect"});
  refuses({"inspect", "--foo"}, 2, {"unknown option --foo"});
  refuses({"inspect", "none"}, 3, {"there is no none"});
  make("text", "not a model");
  refuses({"inspect", "text"}, 3, {"text: "});
  fs::create_directory(folder_ / "empty");
  refuses({"inspect", "empty"}, 3, {"no weights"});
  const Result help = run({"inspect", "--help"});
  EXPECT_EQ(help.code, 0);
  expect_words(help.out, {"easel inspect FILE|DIR|PNG", "--json"});
  EXPECT_EQ(lines_of(run({"inspect", "--json", "easel-tiny", "easel-tiny"}).out).size(), 2u);
}

}  // namespace
}  // namespace easel::testing
