// Single files of each family give the picture of their folder; what is no whole model says so.
#include <cstdlib>

#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

const Picture& plain() {
  static const TinyCheckpoints tiny;
  static const Picture picture = draw(tiny.folder("sd1"));
  return picture;
}

// Makes a tiny model the family's spec, so that a single file of its size is one of that family to the loader.
class TinyFamily {
 public:
  TinyFamily(const fs::path& root, const std::string& model, const std::string& spec)
      : folder_(root / ("models-" + model)) {
    const fs::path made = folder_ / "specs" / spec, tiny = data("models/" + model);
    fs::create_directories(made);
    for (const std::string& part : parts_of(model)) fs::copy(tiny / part / "config.json", made / (part + ".json"));
    fs::copy(tiny / "scheduler/scheduler_config.json", made / "scheduler.json");
    fs::copy(tiny / "model_index.json", made / "model_index.json");
    for (const auto& file : fs::directory_iterator(fs::path(EASEL_SOURCE_DIR) / "models/specs" / spec)) {
      if (file.path().filename().string().starts_with("tokenizer")) fs::copy(file, made / file.path().filename());
    }
    fs::create_directory_symlink(fs::path(EASEL_SOURCE_DIR) / "models/easel-tiny", folder_ / "easel-tiny");
    setenv("EASEL_MODELS", folder_.c_str(), 1);
  }
  ~TinyFamily() { unsetenv("EASEL_MODELS"); }

 private:
  fs::path folder_;
};

// The tensors of a model's parts under the names of its family's single files.
Tensors single_file_tensors(const std::string& model, const std::string& family) {
  Tensors all;
  for (const FilePart& part : single_file_parts(family)) {
    const SourcePtr ours = tensor_source(part_tensors(model, part.name), part.name);
    const SourcePtr theirs = as_single_file(ours, part, config(model, part.name));
    for (const std::string& name : theirs->names()) all.emplace_back(name, theirs->load(name));
  }
  return all;
}

TEST(SingleFile, EqualsTheFolder) {
  const TinyCheckpoints tiny;
  const TinyFamily family(tiny.root(), "sd1", "sd15");
  const fs::path file = tiny.root() / "sd.safetensors";
  Tensors tensors = single_file_tensors("sd1", "sd1");
  // what published files carry besides
  for (const char* extra :
       {"betas", "alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "posterior_variance", "logvar",
        "model_ema.diffusion_modelinput_blocks00weight", "model_ema.decay",
        "cond_stage_model.transformer.text_model.embeddings.position_ids", "cond_stage_model.logit_scale"})
    tensors.emplace_back(extra, at::ones({3}));
  write_safetensors(file, tensors);
  expect_same(draw(file), plain());
  EXPECT_EQ(open_checkpoint(file).name(), "sd");
}

TEST(SingleFile, EveryTensorIsAccountedFor) {
  const TinyCheckpoints tiny;
  const TinyFamily family(tiny.root(), "sd1", "sd15");
  const fs::path file = tiny.root() / "sd.safetensors";
  Tensors tensors = single_file_tensors("sd1", "sd1");
  const std::string dropped = "first_stage_model.decoder.conv_in.bias";
  std::erase_if(tensors, [&](const auto& entry) { return entry.first == dropped; });
  write_safetensors(file, tensors);
  expect_fault({dropped, "missing"}, [&] { draw(file); });

  tensors = single_file_tensors("sd1", "sd1");
  tensors.emplace_back("control_model.zero_convs.0.weight", at::ones({3}));
  write_safetensors(file, tensors);
  expect_fault({"unexpected tensor control_model.zero_convs.0.weight"}, [&] { draw(file); });
}

TEST(SingleFile, OfOtherFamiliesEqualsTheFolder) {
  for (const auto& [model, family, spec] :
       {std::tuple{"sd2", "sd2", "sd2"}, {"sdxl", "sdxl", "sdxl"}, {"sdxl-refiner", "sdxl-refiner", "sdxl-refiner"}}) {
    SCOPED_TRACE(model);
    const TinyCheckpoints tiny;
    const TinyFamily tiny_family(tiny.root(), model, spec);
    const fs::path file = tiny.root() / "model.safetensors";
    Tensors tensors = single_file_tensors(model, family);
    if (std::string(family) == "sd2")  // the layer that folders leave out
      tensors.emplace_back("cond_stage_model.model.transformer.resblocks.23.ln_1.weight", at::ones({32}));
    write_safetensors(file, tensors);
    const Checkpoint c = open_checkpoint(file);
    EXPECT_EQ(c.family->name, family);
    EXPECT_EQ(c.family, open_checkpoint(tiny.folder(model)).family);
    expect_same(draw(file), draw(tiny.folder(model)));
  }
}

TEST(SingleFile, WithoutAVaeTakesOneFromElsewhere) {
  const TinyCheckpoints tiny;
  const TinyFamily family(tiny.root(), "sd1", "sd15");
  const fs::path file = tiny.root() / "no-vae.safetensors", vae = tiny.root() / "vae.safetensors";
  Tensors tensors = single_file_tensors("sd1", "sd1");
  std::erase_if(tensors, [](const auto& entry) { return entry.first.starts_with("first_stage_model."); });
  write_safetensors(file, tensors);
  write_safetensors(vae, part_tensors("sd1", "vae"));
  expect_fault({"there is no vae in it"}, [&] { draw(file); });
  expect_same(draw(file, DtypeChoice::kF32, vae), plain());
}

TEST(SingleFile, MarkersOfThePredictionAreHonoured) {
  const TinyCheckpoints tiny;
  const TinyFamily family(tiny.root(), "sdxl", "sdxl");
  const fs::path file = tiny.root() / "v.safetensors";
  Tensors tensors = single_file_tensors("sdxl", "sdxl");
  tensors.emplace_back("v_pred", at::ones({1}));
  tensors.emplace_back("ztsnr", at::ones({1}));
  write_safetensors(file, tensors);
  const Checkpoint c = open_checkpoint(file);
  EXPECT_EQ(c.scheduler.fields.at("prediction_type"), "v_prediction");
  EXPECT_EQ(c.scheduler.fields.at("rescale_betas_zero_snr"), true);
  EXPECT_EQ(c.scheduler.fields.at("timestep_spacing"), "trailing");
}

TEST(SingleFile, WhatIsNoWholeModelIsNamed) {
  const TinyCheckpoints tiny;
  const fs::path file = tiny.root() / "x.safetensors";
  const auto open = [&] { open_checkpoint(file); };
  write_safetensors(file, {{"lora_unet_down.lora_down.weight", at::zeros({4})}});
  expect_fault({"no whole model", "LoRA"}, open);
  write_safetensors(file, part_tensors("sd1", "vae"));
  expect_fault({"no whole model", "VAE", "--vae"}, open);
  write_safetensors(file, {{"something", at::zeros({4})}});
  expect_fault({"no whole model", "supported: Stable Diffusion 1.x"}, open);
}

}  // namespace
}  // namespace easel
