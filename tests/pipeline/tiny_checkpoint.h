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
  std::string prefix;
  if (part == "unet") UNet(shapes, UNetSpec::from_json(spec, part));
  if (part == "vae") {
    VaeDecoder(shapes, VaeSpec::from_json(spec, part));
    VaeEncoder(shapes, VaeSpec::from_json(spec, part));
  }
  if (part == "text_encoder") {
    ClipTextEncoder(shapes, ClipTextSpec::from_json(spec, part));
    prefix = "text_model.";
  }
  Tensors tensors;
  for (const auto& [name, shape] : shapes.binding().asked)
    tensors.emplace_back(prefix + name, random_weight(part + "/" + prefix + name, shape, 0).to(dtype));
  return tensors;
}

inline std::string stem_of(const std::string& part) {
  return part == "text_encoder" ? "model" : "diffusion_pytorch_model";
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

  // Configs, tokenizer and all three parts' weights into `folder`.
  static void write(const std::string& model, const std::filesystem::path& folder) {
    write_configs(model, folder);
    for (const char* part : {"text_encoder", "unet", "vae"})
      write_safetensors(folder / part / (stem_of(part) + ".safetensors"), part_tensors(model, part));
  }

  static void write_configs(const std::string& model, const std::filesystem::path& folder) {
    namespace fs = std::filesystem;
    fs::create_directories(folder);
    fs::copy(data("models/" + model), folder, fs::copy_options::recursive);
    fs::create_directory_symlink(std::filesystem::path(EASEL_SOURCE_DIR) / "models/easel-tiny/tokenizer",
                                 folder / "tokenizer");
  }

 private:
  std::filesystem::path root_;
};

}  // namespace easel::testing
