// What tells the kinds of weights files apart. The tensors that diffusers looks at are in
// CHECKPOINT_KEY_NAMES (loaders/single_file_utils.py); those of LoRA files in loaders/lora_conversion_utils.py.
#include <algorithm>

#include "weights/identify.h"

namespace easel {

const std::vector<KindRow>& kind_table() {
  using enum FileKind;
  static const std::vector<KindRow> rows = {
      // Adapters first: their names contain those of the network they adapt.
      {"Control-LoRA", kOther, {"lora_controlnet"}},
      {"LoRA (kohya)", kLora, {"lora_*.lora_down.weight"}},
      {"LoHa (LyCORIS)", kLora, {"*.hada_w1_a"}},
      {"LoKr (LyCORIS)", kLora, {"*.lokr_w1*"}},
      {"LoRA (PEFT)", kLora, {"*.lora_A.*weight"}},
      {"LoRA (diffusers)", kLora, {"*lora.down.weight"}},
      {"LoRA (diffusers)", kLora, {"*.lora_linear_layer.down.weight"}},
      {"ControlNet", kControlNet, {"*input_hint_block.0.weight"}},
      {"ControlNet (diffusers)", kControlNet, {"controlnet_cond_embedding.conv_in.weight"}},
      {"textual inversion", kTextualInversion, {"emb_params"}},
      {"textual inversion", kTextualInversion, {"string_to_param*"}},
      {"textual inversion for Stable Diffusion XL", kTextualInversion, {"clip_g", "clip_l"}},
      {"IP-Adapter", kOther, {"image_proj.*", "ip_adapter.*"}},
      {"T2I-Adapter", kOther, {"*body.0.block1.weight"}},
      {"T2I-Adapter", kOther, {"adapter.body.0.resnets.0.block1.weight"}},
      {"AnimateDiff motion module", kOther, {"*motion_modules.0.temporal_transformer*"}},
      // Other families.
      {"Playground v2.5", kOther, {"edm_mean"}},
      {"Chroma", kOther, {"*distilled_guidance_layer.in_proj.bias"}},
      {"Flux", kOther, {"*double_blocks.0.img_attn.*"}},
      {"Flux (diffusers)", kOther, {"single_transformer_blocks.0.attn.to_q.weight"}},
      {"Stable Diffusion 3", kOther, {"*joint_blocks.0.context_block.*"}},
      {"Stable Diffusion 3 (diffusers)",
       kOther,
       {"transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight"}},
      {"Stable Cascade", kOther, {"clip_txt_mapper.weight"}},
      {"Stable Cascade", kOther, {"down_blocks.1.0.channelwise.0.weight"}},
      {"LTX-Video", kOther, {"*patchify_proj.weight"}},
      {"PixArt", kOther, {"*adaln_single.linear.weight"}},
      {"AuraFlow", kOther, {"*double_layers.0.attn.w1q.weight"}},
      {"Lumina", kOther, {"*cap_embedder.0.weight"}},
      {"HunyuanVideo", kOther, {"*txt_in.individual_token_refiner.*"}},
      {"Wan", kOther, {"*head.modulation"}},
  };
  return rows;
}

const std::vector<PartRow>& part_table() {
  using enum Naming;
  static const std::string kToken = "embeddings.token_embedding.weight";
  static const std::vector<PartRow> rows = {
      {{"unet", "model.diffusion_model.", kLdm}, "input_blocks.0.0.weight", ""},
      {{"unet", "", kLdm}, "input_blocks.0.0.weight", ""},
      {{"unet", "", kDiffusers}, "time_embedding.linear_1.weight", ""},
      {{"vae", "first_stage_model.", kLdm}, "decoder.conv_in.weight", ""},
      {{"vae", "", kLdm}, "decoder.mid.block_1.conv1.weight", ""},
      {{"vae", "", kDiffusers}, "decoder.mid_block.resnets.0.conv1.weight", ""},
      {{"vae", "", kDiffusers}, "decoder.layers.0.weight", ""},  // AutoencoderTiny, and its author's two files
      {{"vae", "", kTaesd}, "3.conv.0.weight", ""},
      {{"vae", "", kTaesd}, "1.conv.0.weight", ""},
      {{"text_encoder", "cond_stage_model.transformer.", kDiffusers}, "text_model." + kToken, "sd1"},
      {{"text_encoder", "cond_stage_model.transformer.", kDiffusers}, kToken, "sd1"},
      {{"text_encoder", "cond_stage_model.model.", kOpenClip}, "ln_final.weight", "sd2"},
      {{"text_encoder", "conditioner.embedders.0.transformer.", kDiffusers}, "text_model." + kToken, "sdxl"},
      {{"text_encoder_2", "conditioner.embedders.1.model.", kOpenClip}, "ln_final.weight", "sdxl"},
      {{"text_encoder_2", "conditioner.embedders.0.model.", kOpenClip}, "ln_final.weight", "sdxl-refiner"},
      {{"text_encoder", "", kDiffusers}, "text_model." + kToken, ""},
      {{"text_encoder", "", kDiffusers}, kToken, ""},
      {{"text_encoder", "", kOpenClip}, "ln_final.weight", ""},
  };
  return rows;
}

const std::vector<FamilyNames>& family_names() {
  static const std::vector<FamilyNames> rows = {
      {"sd1", "Stable Diffusion 1.x", 768},
      {"sd2", "Stable Diffusion 2.x", 1024},
      {"sdxl", "Stable Diffusion XL base", 2048},
      {"sdxl-refiner", "Stable Diffusion XL refiner", 1280},
  };
  return rows;
}

const std::vector<SpecRow>& spec_table() {
  static const std::vector<SpecRow> rows = {
      {"sd1", 4, "", "sd15"},
      {"sd1", 9, "", "sd15-inpainting"},
      {"sd2", 4, "v", "sd2"},
      {"sd2", 4, "eps", "sd2-base"},
      {"sd2", 9, "", "sd2-inpainting"},
      {"sdxl", 4, "", "sdxl"},
      {"sdxl", 9, "", "sdxl-inpainting"},
      {"sdxl", 4, "", "ssd-1b", 4},
      {"sdxl", 4, "", "segmind-vega", 2},
      {"sdxl-refiner", 4, "", "sdxl-refiner"},
  };
  return rows;
}

const std::vector<FilePart>& single_file_parts(std::string_view family) {
  static const auto table = [] {
    std::map<std::string, std::vector<FilePart>, std::less<>> parts;
    for (const FamilyNames& row : family_names()) {
      std::vector<FilePart>& list = parts[row.family];
      const auto add = [&](const PartRow& part) {
        const bool there =
            std::any_of(list.begin(), list.end(), [&](const FilePart& other) { return other.name == part.part.name; });
        if (!there && !part.part.prefix.empty()) list.push_back(part.part);
      };
      for (const PartRow& part : part_table()) {
        if (part.family == row.family || part.part.name == "unet" || part.part.name == "vae") add(part);
      }
    }
    return parts;
  }();
  const auto found = table.find(family);
  TORCH_CHECK(found != table.end(), "no family ", family);
  return found->second;
}

}  // namespace easel
