// adapters: LoRA and its family: files of small changes to a model's weights, added when the weights are loaded.
#pragma once

#include "easel/core.h"
#include "easel/tensor.h"
#include "easel/weights.h"

namespace easel {

// A file and how strongly it works on each kind of network.
struct LoraChoice {
  std::filesystem::path file;
  double unet = 1, text_encoder = 1;

  bool operator==(const LoraChoice&) const = default;
};

// "FILE", "FILE:w" or "FILE:w:te": split at the last colons that parse as numbers; w is the U-Net's strength and, where
// te is not given, the text encoders' too.
LoraChoice parse_lora(std::string_view text);

// The files of a folder and those below that could be LoRAs, by name without extension. A name may have several.
std::multimap<std::string, std::filesystem::path> loras_in(const std::filesystem::path& folder);

// A network that LoRAs may change.
struct LoraTarget {
  std::string part;                         // "unet", "text_encoder", "text_encoder_2"
  std::map<std::string, Shape> weights;     // tensors under diffusers' names, text encoders' without `text_model.`
  std::map<std::string, std::string> also;  // further names, as LDM's: theirs → ours
};

// What a file does to one tensor of one network; all float32.
struct LoraUpdate;

// A file, opened and matched with the networks of a model. LoRA (Hu et al. 2021, arXiv 2106.09685), of convolutions too
// (LoCon, with a Tucker core where there is one), LoHa, LoKr (Yeh et al. 2023, arXiv 2309.14859), DoRA (Liu et al.
// 2024, arXiv 2402.09353), full differences. Names of kohya (LDM's and diffusers'), PEFT, diffusers, and plain ones.
// The scale is alpha / rank; without alpha 1; PEFT's rank-stabilised alpha / √rank where the file says so. Immutable.
class Lora {
 public:
  // `family` of the model, for messages: "sd1". Throws Error(kFile) naming all that does not fit: another family, names
  // without a tensor here (unless `partial`, which tells how many), shapes and ranks that do not multiply to it, parts
  // that are missing, values that are not finite.
  static std::shared_ptr<const Lora> open(const std::filesystem::path& file, const std::vector<LoraTarget>& targets,
                                          const std::string& family, bool partial);
  ~Lora();

  bool changes(const std::string& part) const;
  bool changes(const std::string& part, const std::string& tensor) const;
  // `weight`, float32, with the change at that strength. DoRA's share is W + strength·(W' − W), as ComfyUI and
  // AUTOMATIC1111 take it; at strength 1 it is the paper's.
  Tensor merged(const std::string& part, const std::string& tensor, Tensor weight, double strength) const;

  // The change as a product that a layer computes beside its weight: LoRA and LoCon without a core and a magnitude;
  // nullopt for all others.
  std::optional<LowRank> low_rank(const std::string& part, const std::string& tensor, double strength) const;

  const std::filesystem::path& file() const { return file_; }
  std::size_t tensors() const { return updates_.size(); }

 private:
  Lora() = default;
  std::filesystem::path file_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<const LoraUpdate>> updates_;  // by part and tensor
};

struct AppliedLora {
  std::shared_ptr<const Lora> lora;
  double strength;
};

// A view of a part's weights in which the changes are made one after the other, in float32, when a tensor is loaded; it
// is rounded once, to the dtype it is bound in. Tensors that no LoRA changes are the base's own memory.
// `beside`: tensors of which all changes are low_rank() ones stay as they are, and layers compute the changes.
SourcePtr with_loras(SourcePtr base, std::string part, std::vector<AppliedLora> loras, bool beside = false);

}  // namespace easel
