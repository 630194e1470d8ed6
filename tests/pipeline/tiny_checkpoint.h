// Checkpoints on disk made of tests/data/models and random weights, in every form that is published.
#pragma once

#include <unistd.h>

#include "easel/pipeline.h"
#include "support/golden.h"

namespace easel::testing {

// (published name, tensor) of one part.
using Tensors = std::vector<std::pair<std::string, Tensor>>;

inline Tensors part_tensors(const std::string& model, const std::string& part, at::ScalarType dtype = at::kFloat) {
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  const json spec = config(model, part);
  if (part == "unet") UNet(shapes, UNetSpec::from_json(spec, part));
  if (part == "vae") {
    VaeDecoder(shapes, VaeSpec::from_json(spec, part));
    VaeEncoder(shapes, VaeSpec::from_json(spec, part));
  }
  const bool multilingual = part == "text_encoder" && spec.contains("project_dim");
  if (multilingual)
    XlmRobertaEncoder(shapes, XlmRobertaSpec::from_json(spec, part));
  else if (part.starts_with("text_encoder"))
    ClipTextEncoder(shapes, ClipTextSpec::from_json(spec, part));
  Tensors tensors;
  for (const auto& [name, shape] : shapes.binding().asked) {
    const std::string key = multilingual ? name : published_key(part, name);
    tensors.emplace_back(key, random_weight(part + "/" + key, shape, 0).to(dtype));
  }
  return tensors;
}

// Those that tests/data/models/MODEL has.
inline std::vector<std::string> parts_of(const std::string& model) {
  std::vector<std::string> parts;
  for (const char* part : {"text_encoder", "text_encoder_2", "unet", "vae"}) {
    if (std::filesystem::exists(data("models/" + model + "/" + part))) parts.emplace_back(part);
  }
  return parts;
}

inline std::string stem_of(const std::string& part) {
  return part.starts_with("text_encoder") ? "model" : "diffusion_pytorch_model";
}

// Folders below one temporary folder, removed at the end.
class TinyCheckpoints {
 public:
  TinyCheckpoints() {
    static int count = 0;
    root_ = std::filesystem::path(::testing::TempDir()) /
            ("easel-tiny-" + std::to_string(getpid()) + "-" + std::to_string(count++));
    std::filesystem::create_directories(root_);
  }
  ~TinyCheckpoints() { std::filesystem::remove_all(root_); }
  TinyCheckpoints(const TinyCheckpoints&) = delete;

  const std::filesystem::path& root() const { return root_; }

  // The plain diffusers folder of a model, written at the first call.
  std::filesystem::path folder(const std::string& model) const {
    const auto made = root_ / model;
    if (!std::filesystem::exists(made)) write(model, made);
    return made;
  }

  // Configs, tokenizers and all parts' weights into `folder`.
  static void write(const std::string& model, const std::filesystem::path& folder) {
    write_configs(model, folder);
    for (const std::string& part : parts_of(model))
      write_safetensors(folder / part / (stem_of(part) + ".safetensors"), part_tensors(model, part));
  }

  static void write_configs(const std::string& model, const std::filesystem::path& folder) {
    namespace fs = std::filesystem;
    fs::create_directories(folder);
    fs::copy(data("models/" + model), folder, fs::copy_options::recursive);
    const fs::path published = fs::path(EASEL_SOURCE_DIR) / "models/easel-tiny/tokenizer";
    bool own = false;  // special tokens of the model's own, over the published vocabulary
    for (const char* name : {"tokenizer", "tokenizer_2"}) {
      if (!fs::exists(folder / name)) continue;
      own = true;
      if (fs::exists(folder / name / "sentencepiece.bpe.model")) continue;
      for (const char* file : {"vocab.json", "merges.txt"}) fs::create_symlink(published / file, folder / name / file);
    }
    if (!own) fs::create_directory_symlink(published, folder / "tokenizer");
  }

 private:
  std::filesystem::path root_;
};

}  // namespace easel::testing
