// A model as it is published, whole or in part, folder or file: what inspect shows and convert writes. Configs stay
// JSON here, for both must hold what Easel itself has no use for.
#pragma once

#include "easel/pipeline.h"

namespace easel::cli {

struct ModelPart {
  std::string name;   // unet, vae, text_encoder, text_encoder_2
  FilePart stored;    // in a folder: diffusers' naming and no prefix
  json config;        // null where none is known
  SourcePtr tensors;  // under diffusers' published names
};

struct ModelFiles {
  std::filesystem::path path;
  FileIdentity identity;
  SourcePtr file;  // null for a folder
  std::vector<ModelPart> parts;
  // What is in a model's folder beside the weights, by folder or file: unet, …, scheduler, tokenizer, tokenizer_2
  // (their tokenizer_config.json, with the padding token that holds), model_index, easel. Of a file: as it carries
  // them, else as its family publishes them.
  std::map<std::string, json> configs;

  bool is_folder() const { return file == nullptr; }
  const ModelPart* part(const std::string& name) const;
};

// A diffusers folder, the folder of one part, or a weights file of any kind. `prediction` (eps, v; empty: as the model
// says) chooses between a family's published configs. Throws Error(kFile).
ModelFiles open_model_files(const std::filesystem::path& path, const std::string& prediction = "");

// Whether a part has the tensors of its config, a sentence a fault.
struct PartCheck {
  std::vector<std::string> missing, misfit, unexpected;
  std::string unsupported;  // why the config cannot be checked; empty when it was
};
PartCheck check_part(const ModelPart& part);

// Tensors of a single file that belong to none of its parts; `known`: is_known_extra().
struct Leftovers {
  std::vector<std::string> known, unexpected;
};
Leftovers leftovers(const ModelFiles& model);

}  // namespace easel::cli
