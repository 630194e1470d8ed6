// Pictures with LoRAs against diffusers' and PEFT's (golden/loras.json, by scripts/golden/lora_golden.py).
#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

const Precision kF32 = resolve_precision("cpu", DtypeChoice::kF32);

const std::string kLoras = data("loras");

class LoraPictures : public TinyPipelines {
 protected:
  Picture draw(const Request& r, const std::string& model = "sd1") {
    return pipeline(model).generate(resolve(r, pipeline(model).checkpoint(), kF32));
  }
  static Request request(const std::string& prompt = "a cat") {
    Request r;
    r.prompt = prompt;
    r.seed = 5;
    r.steps = 2;
    r.sampler = "ddim";
    r.width = 64;
    r.height = 48;
    return r;
  }
};

TEST_F(LoraPictures, EqualTheReference) {
  const SourcePtr pictures = open_safetensors(data("golden/loras.pictures.safetensors"));
  for (const json& golden : read(data("golden/loras.json"))) {
    const std::string name = golden.at("name"), model = golden.at("model");
    SCOPED_TRACE(name);
    Request r = request_in(golden);
    for (std::string& file : *r.lora) file = kLoras + "/" + file;
    const Image want = image_of(pictures->load(name)), got = draw(r, model).image;
    r.lora.reset();
    const int without = largest_difference(draw(r, model).image, want);
    std::cout << name << ": largest " << largest_difference(got, want) << "/255, without " << without << "/255\n";
    EXPECT_LE(largest_difference(got, want), 1);
    EXPECT_GT(without, 8);
  }
}

// Beside the weights, the sums of products are those of the merged ones up to rounding.
TEST_F(LoraPictures, AtRuntimeAsAtLoad) {
  for (const auto& [files, model] :
       {std::pair{std::vector<std::string>{"peft.safetensors:0.8"}, "sd1"},
        {{"locon.safetensors"}, "sd1"},
        {{"peft.safetensors:0.5", "locon.safetensors:0.8", "dora.safetensors:0.3", "loha.safetensors"}, "sd1"},
        {{"kohya-xl.safetensors:0.9"}, "sdxl"}}) {
    Request r = request();
    r.lora.emplace();
    for (const std::string& file : files) r.lora->push_back(kLoras + "/" + file);
    const Image merged = draw(r, model).image;
    r.lora_apply = "at-runtime";
    EXPECT_LE(largest_difference(draw(r, model).image, merged), 1) << files.front();
    const Checkpoint& c = pipeline(model).checkpoint();
    Request at_load = r;
    at_load.lora_apply = "at-load";
    EXPECT_NE(pack_key(resolve(r, c, kF32), c), pack_key(resolve(at_load, c, kF32), c));
    EXPECT_EQ(draw(at_load, model).image.pixels, merged.pixels);
  }
  const Picture plain = draw(request());
  EXPECT_TRUE(at::equal(draw(request()).latent, plain.latent));
}

TEST_F(LoraPictures, WhatIsTakenAwayLeavesNoTrace) {
  const Picture before = draw(request());
  Request changed = request();
  for (const char* file : {"peft", "locon", "dora"}) {
    changed.lora = {{kLoras + "/" + file + ".safetensors:0.8"}};
    EXPECT_NE(draw(changed).image.pixels, before.image.pixels) << file;
    const Picture after = draw(request());
    EXPECT_TRUE(at::equal(after.latent, before.latent)) << file;
    EXPECT_EQ(after.image.pixels, before.image.pixels) << file;
  }
}

TEST_F(LoraPictures, StrengthsOfTheTwoKindsOfNetworks) {
  const auto with = [&](const std::string& strengths) {
    Request r = request();
    r.lora = {{kLoras + "/peft.safetensors" + strengths}};
    return draw(r).image.pixels;
  };
  const auto plain = draw(request()).image.pixels;
  EXPECT_EQ(with(":0"), plain);
  EXPECT_EQ(with(":0:0"), plain);
  const auto text = with(":0:1"), unet = with(":1:0"), both = with("");
  EXPECT_NE(text, plain);
  EXPECT_NE(unet, plain);
  EXPECT_NE(text, unet);
  EXPECT_EQ(both, with(":1"));
  EXPECT_NE(both, unet);
}

TEST_F(LoraPictures, TagsInThePromptAreTheSame) {
  Request flag = request(), tag = request("a <lora:peft:0.5:0.7>cat"),
          twice = request("a <lora:peft:0.3> cat <lora:locon>");
  flag.lora = {{kLoras + "/peft.safetensors:0.7:0.5"}};
  tag.lora_dir = twice.lora_dir = kLoras;
  EXPECT_EQ(draw(tag).image.pixels, draw(flag).image.pixels);
  EXPECT_NE(draw(twice).image.pixels, draw(flag).image.pixels);
  const Checkpoint& c = pipeline("sd1").checkpoint();
  const auto key = [&](const Request& r) { return pack_key(resolve(r, c, kF32), c); };
  EXPECT_EQ(key(tag), key(flag)) << "they go together";
  EXPECT_NE(key(tag), key(twice));
  EXPECT_NE(key(tag), key(request()));
}

TEST_F(LoraPictures, HalfPrecisionIsRoundedOnce) {
  const Precision bf16 = resolve_precision("cpu", DtypeChoice::kBF16);
  Pipeline half(open_checkpoint(tiny_.folder("sd1")), bf16);
  Request r = request();
  r.lora = {{kLoras + "/peft.safetensors"}};
  const Image got = half.generate(resolve(r, half.checkpoint(), bf16)).image;
  EXPECT_EQ(got.pixels.size(), draw(r).image.pixels.size());
  r.lora.reset();
  EXPECT_NE(half.generate(resolve(r, half.checkpoint(), bf16)).image.pixels, got.pixels);
}

TEST_F(LoraPictures, FaultsAreNamed) {
  const auto fault = [&](const std::vector<std::string>& words, const std::function<void(Request&)>& change,
                         ErrorKind kind = ErrorKind::kFile) {
    Request r = request();
    change(r);
    expect_fault(
        words, [&] { resolve(r, pipeline("sd1").checkpoint(), kF32); }, kind);
  };
  fault({"missing.safetensors"}, [](Request& r) { r.lora = {{"missing.safetensors:0.5"}}; });
  fault({"kohya-xl.safetensors: a LoRA for Stable Diffusion XL"},
        [](Request& r) { r.lora = {{kLoras + "/kohya-xl.safetensors"}}; });
  fault({"<lora:pefd:...>: no such file in", "nearest: peft"},
        [](Request& r) { r.prompt = "<lora:pefd>", r.lora_dir = kLoras; });
  fault(
      {"<lora:peft:...> in the prompt: --lora-dir says where"}, [](Request& r) { r.prompt = "<lora:peft>"; },
      ErrorKind::kUsage);
  fault({"no/folder"}, [](Request& r) { r.prompt = "<lora:peft>", r.lora_dir = "no/folder"; });
  fault(
      {"--lora-partial has no effect without a LoRA"}, [](Request& r) { r.lora_partial = true; }, ErrorKind::kUsage);
  fault(
      {"--lora-apply has no effect without a LoRA"}, [](Request& r) { r.lora_apply = "at-runtime"; },
      ErrorKind::kUsage);
  fault(
      {"--lora-dir has no effect with --prompt-syntax raw"},
      [](Request& r) { r.lora_dir = kLoras, r.prompt_syntax = "raw"; }, ErrorKind::kUsage);
}

}  // namespace
}  // namespace easel
