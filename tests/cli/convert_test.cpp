// easel convert: every form and back, bit for bit; what is refused; what is left when it fails.
#include "cli/program.h"
#include "pipeline/tiny_checkpoint.h"

namespace easel::testing {
namespace {

namespace fs = std::filesystem;

class Convert : public CliTest {
 protected:
  // tests/data/models/MODEL with random weights in half precision.
  fs::path tiny(const std::string& model) const {
    const fs::path folder = folder_ / model;
    TinyCheckpoints::write_configs(model, folder);
    for (const std::string& part : parts_of(model))
      write_safetensors(folder / part / (stem_of(part) + ".safetensors"), part_tensors(model, part, at::kHalf));
    return folder;
  }

  void converts(const Words& arguments, const std::string& said = "") const {
    Words all = {"convert"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Result r = run(all);
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, arguments[1] + "\n");
    EXPECT_EQ(r.err.empty(), said.empty()) << r.err;
    expect_words(r.err, {said});
  }

  void refuses(const Words& arguments, int code, const Words& words, Surroundings around = {}) const {
    const Words before = files();
    Words all = {"convert"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Result r = run(all, around);
    EXPECT_EQ(r.code, code) << r.err;
    EXPECT_EQ(r.out, "");
    expect_words(r.err, words);
    EXPECT_EQ(files(), before) << "nothing torn is left";
  }

  std::map<std::string, Tensor> tensors(const fs::path& file) const {
    const SourcePtr source = open_safetensors(folder_ / file);
    std::map<std::string, Tensor> all;
    for (const std::string& name : source->names()) all[name] = source->load(name);
    return all;
  }

  void expect_same_tensors(const fs::path& got, const fs::path& want) const {
    const auto a = tensors(got), b = tensors(want);
    EXPECT_EQ(a.size(), b.size()) << got;
    for (const auto& [name, tensor] : b) {
      const auto found = a.find(name);
      ASSERT_NE(found, a.end()) << got << ": " << name;
      EXPECT_EQ(found->second.scalar_type(), tensor.scalar_type()) << name;
      EXPECT_TRUE(at::equal(found->second, tensor)) << got << ": " << name;
    }
  }

  void expect_same_folder(const std::string& got, const std::string& want) const {
    for (const std::string& part : parts_of(want)) {
      const fs::path file = fs::path(part) / (stem_of(part) + ".safetensors");
      expect_same_tensors(got / file, want / file);
      EXPECT_EQ(read(folder_ / got / part / "config.json"), read(folder_ / want / part / "config.json")) << part;
    }
    for (const char* file : {"model_index.json", "scheduler/scheduler_config.json"})
      EXPECT_EQ(read(folder_ / got / file), read(folder_ / want / file)) << file;
  }
};

struct Form {
  std::string model, family;
  Words names;  // as other programs call them
};

TEST_F(Convert, ToASingleFileAndBack) {
  const std::vector<Form> forms = {
      {"sd1",
       "sd1",
       {"cond_stage_model.transformer.text_model.final_layer_norm.weight", "first_stage_model.encoder.norm_out.bias"}},
      {"sd1-odd", "sd1", {}},
      {"sd2", "sd2", {"cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight", "v_pred"}},
      {"sd2-zsnr", "sd2", {"v_pred", "ztsnr"}},
      {"sdxl",
       "sdxl",
       {"conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",
        "conditioner.embedders.1.model.text_projection", "model.diffusion_model.label_emb.0.2.weight"}},
      {"sdxl-refiner", "sdxl-refiner", {"conditioner.embedders.0.model.positional_embedding"}}};
  for (const Form& form : forms) {
    tiny(form.model);
    const std::string file = form.model + ".safetensors", back = form.model + "-back";
    converts({form.model, file});
    const SourcePtr written = open_safetensors(folder_ / file);
    EXPECT_EQ(identify(*written).family, form.family);
    for (const std::string& name : form.names) EXPECT_TRUE(written->info(name)) << file << ": " << name;
    converts({file, back});
    expect_same_folder(back, form.model);
  }
  converts({"sdxl.safetensors", "again.safetensors"});
  EXPECT_TRUE(bytes("sdxl.safetensors") == bytes("again.safetensors"));
}

TEST_F(Convert, PicturesAreTheSameFromBothForms) {
  tiny("sdxl");
  converts({"sdxl", "sdxl.safetensors"});
  for (const std::string form : {"sdxl", "sdxl.safetensors"}) {
    const Result r = draw({"a cat", "-m", form, "-s", "1", "--disable-image-metadata", "-o", form + ".png"});
    ASSERT_EQ(r.code, 0) << r.err;
  }
  EXPECT_TRUE(bytes("sdxl.png") == bytes("sdxl.safetensors.png"));
}

TEST_F(Convert, Dtype) {
  tiny("sd1");
  converts({"sd1", "wide", "--dtype", "f32"});
  converts({"wide", "narrow.safetensors", "--dtype", "f16"});
  converts({"narrow.safetensors", "narrow"});
  const fs::path unet = "unet/diffusion_pytorch_model.safetensors";
  for (const auto& [name, tensor] : tensors("wide" / unet)) EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
  expect_same_tensors("narrow" / unet, "sd1" / unet);  // every half is a float
  converts({"narrow.safetensors", "bf16.safetensors", "--dtype", "bf16"});
  for (const auto& [name, tensor] : tensors("bf16.safetensors")) EXPECT_EQ(tensor.scalar_type(), at::kBFloat16) << name;
}

// Folder to folder keeps what it does not know.
TEST_F(Convert, AFoldersCompanions) {
  const fs::path folder = tiny("sd1");
  fs::create_directories(folder / "safety_checker");
  make("sd1/safety_checker/model.safetensors", "kept as it is");
  make("sd1/unet/diffusion_pytorch_model.non_ema.safetensors", "another form of the weights");
  make("sd1/sd.ckpt", "another form of the model");
  make("sd1/README.md", "text");
  make("sd1/easel.json", R"({"steps": 7})");
  converts({"sd1", "copy"});
  expect_same_folder("copy", "sd1");
  EXPECT_EQ(bytes("copy/safety_checker/model.safetensors"), "kept as it is");
  EXPECT_EQ(bytes("copy/README.md"), "text");
  EXPECT_EQ(bytes("copy/tokenizer/vocab.json"), bytes("sd1/tokenizer/vocab.json"));
  EXPECT_FALSE(fs::exists(folder_ / "copy/sd.ckpt"));
  EXPECT_FALSE(fs::exists(folder_ / "copy/unet/diffusion_pytorch_model.non_ema.safetensors"));
  converts({"copy", "sd1.safetensors"});
  converts({"sd1.safetensors", "back"});
  EXPECT_EQ(read(folder_ / "back/easel.json"), json::parse(R"({"steps": 7})"));
}

TEST_F(Convert, OtherFilesKeepTheirNames) {
  const Tensors lora = {{"lora_unet_x.lora_down.weight", at::rand({2, 4})},
                        {"lora_unet_x.alpha", at::scalar_tensor(2)}};
  write_safetensors(folder_ / "lora.safetensors", lora);
  converts({"lora.safetensors", "half.safetensors", "--dtype", "f16"});
  EXPECT_EQ(tensors("half.safetensors").at("lora_unet_x.alpha").scalar_type(), at::kHalf);
  refuses({"lora.safetensors", "folder"}, 2, {"expected a name ending in .safetensors", "LoRA (kohya)"});
  refuses({"lora.safetensors", "x.safetensors", "--to", "ldm"}, 2, {"--to has no effect"});
}

TEST_F(Convert, Usage) {
  tiny("sd1");
  refuses({}, 2, {"expected a source and a target, got 0 paths"});
  refuses({"sd1"}, 2, {"got 1 paths"});
  refuses({"sd1", "a", "b"}, 2, {"got 3 paths"});
  refuses({"sd1", "x", "--dtype", "int8", "--to", "onnx", "--foo"}, 2,
          {"--dtype 'int8': expected f16, bf16, f32", "--to 'onnx': expected diffusers, ldm", "unknown option --foo"});
  refuses({"sd1", "sd1"}, 2, {"sd1 exists"});
  refuses({"sd1", "x.safetensors", "--to", "diffusers"}, 2, {"makes a folder"});
  refuses({"sd1", "x", "--prediction", "v"}, 2, {"--prediction has no effect"});
  refuses({"none", "x"}, 3, {"there is no none"});
  refuses({"sd1", "missing/x"}, 3, {"missing/x: cannot be written: No such file or directory"});
  refuses({"sd1", "missing/x.safetensors"}, 3, {"missing/x.safetensors: cannot be written"});
}

TEST_F(Convert, WhatIsNotWhole) {
  tiny("sd1");
  const fs::path vae = folder_ / "sd1/vae/diffusion_pytorch_model.safetensors";
  Tensors kept = part_tensors("sd1", "vae", at::kHalf);
  kept.erase(kept.begin());
  write_safetensors(vae, kept);
  refuses({"sd1", "x.safetensors"}, 3, {"missing tensor", "only a whole model can change its form"});
  kept = part_tensors("sd1", "vae", at::kHalf);
  kept.emplace_back("decoder.nobody.weight", at::ones(1));
  write_safetensors(vae, kept);
  refuses({"sd1", "x.safetensors"}, 3, {"unexpected tensor decoder.nobody.weight"});
  fs::remove_all(folder_ / "sd1/vae");
  refuses({"sd1", "x.safetensors"}, 3, {"there is no vae"});
}

TEST_F(Convert, StrangeTensorsInASingleFile) {
  tiny("sd1");
  converts({"sd1", "sd1.safetensors"});
  Tensors all;
  const SourcePtr file = open_safetensors(folder_ / "sd1.safetensors");
  for (const std::string& name : file->names()) all.emplace_back(name, file->load(name));
  all.emplace_back("betas", at::ones(1000));
  all.emplace_back("model_ema.decay", at::ones(1));
  const auto write = [&](const std::string& name) {
    Metadata metadata = file->metadata();
    metadata.erase("format");
    write_safetensors(folder_ / name, *tensor_source(all, name), {}, metadata);
  };
  write("extra.safetensors");
  converts({"extra.safetensors", "extra"}, "left out, for no network reads them: betas and 1 more tensors");
  expect_same_folder("extra", "sd1");
  all.emplace_back("control_model.weight", at::ones(1));
  write("strange.safetensors");
  refuses({"strange.safetensors", "strange"}, 3, {"unexpected tensor control_model.weight"});
}

TEST_F(Convert, ValuesThatDoNotFit) {
  tiny("sd1");
  Tensors unet = part_tensors("sd1", "unet");
  unet.front().second.fill_(1e6);
  write_safetensors(folder_ / "sd1/unet/diffusion_pytorch_model.safetensors", unet);
  refuses({"sd1", "x", "--dtype", "f16"}, 3, {unet.front().first, "beyond the range of F16"});
}

TEST_F(Convert, AFullDiskLeavesNothing) {
  tiny("sd1");
  refuses({"sd1", "x.safetensors"}, 3, {"x.safetensors: cannot be written: File too large"}, {.file_size = 100'000});
  refuses({"sd1", "x"}, 3, {"cannot be written: File too large"}, {.file_size = 100'000});
  converts({"sd1", "sd1.safetensors"});
  refuses({"sd1.safetensors", "x"}, 3, {"cannot be written: File too large"}, {.file_size = 100'000});
}

// SD2's prediction type is not in its tensors.
TEST_F(Convert, ThePredictionTypeTravels) {
  tiny("sd2");
  converts({"sd2", "sd2.safetensors"});
  const FileIdentity id = identify(*open_safetensors(folder_ / "sd2.safetensors"));
  EXPECT_EQ(id.prediction, "v");
  EXPECT_FALSE(id.prediction_assumed);
  const Metadata metadata = open_safetensors(folder_ / "sd2.safetensors")->metadata();
  EXPECT_EQ(metadata.at("modelspec.prediction_type"), "v");
  EXPECT_EQ(metadata.at("modelspec.architecture"), "stable-diffusion-v2-768-v");
}

}  // namespace
}  // namespace easel::testing
