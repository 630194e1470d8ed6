#pragma once

#include "easel/weights.h"

namespace easel {

// diffusers' names ↔ those of the original single files, for one part without its prefix: a bijection. Names are mapped
// by the module they are in; a module's inner names are the same or in a table of their own.
class KeyMap {
 public:
  // `config`: the part's config.json, which numbers the blocks. Throws Error(kFile) for fields that are missing.
  static KeyMap unet(const json& config);
  static KeyMap vae(const json& config);
  // A ControlNet without its prefix (control_model.): a U-Net's way down and what is its own.
  static KeyMap controlnet(const json& config);
  // OpenCLIP's text tower. q_proj, k_proj and v_proj have no counterpart: they are stacked (see layouts.cpp).
  static KeyMap open_clip(int64_t layers);

  // nullopt for a name without counterpart.
  std::optional<std::string> theirs(const std::string& ours) const;
  std::optional<std::string> ours(const std::string& theirs) const;

 private:
  using Names = std::map<std::string, std::string>;
  struct Inside {
    Names ours_to_theirs, theirs_to_ours;
    Names old_spellings;  // other names of ours, of older files
    explicit Inside(const Names& names, Names old = {});
  };
  struct Module {
    std::string ours, theirs;
    const Inside* inside;  // null: the same names
  };

  // `inside` is static data.
  void add(std::string ours, std::string theirs, const Inside* inside = nullptr);

  // A U-Net's ResNet block and the transformer behind it.
  void add_layer(const std::string& ours, int64_t index, const std::string& theirs, bool attention);
  void add_way_down(const json& config);

  static const Inside& unet_resnet();
  static const Inside& vae_resnet();
  static const Inside& vae_attention();
  static const Inside& open_clip_layer();

  std::map<std::string, Module> by_ours_, by_theirs_;
};

}  // namespace easel
