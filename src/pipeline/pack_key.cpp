#include "pipeline/loras.h"
#include "pipeline/prompt_plan.h"

namespace easel {

namespace {

// Fields that each picture of a pack has for itself.
bool is_own(const std::string& field) {
  static const std::set<std::string> kOwn = {"prompt",
                                             "negative_prompt",
                                             "prompt_2",
                                             "negative_prompt_2",
                                             "seed",
                                             "cfg_scale",
                                             "cfg_rescale",
                                             "clip_skip",
                                             "original_size",
                                             "crop",
                                             "target_size",
                                             "aesthetic_score",
                                             "negative_aesthetic_score",
                                             "prompt_syntax",
                                             "prompt_weighting",
                                             "embd_dir",
                                             "lora",
                                             "lora_dir",
                                             "control_image",
                                             "canny",
                                             "canny_low",
                                             "canny_high",
                                             "init_img",
                                             "mask",
                                             "resize",
                                             "invert_mask",
                                             "mask_blur",
                                             "inpaint_full_res",
                                             "inpaint_padding",
                                             "no_paste_back",
                                             "outpaint"};
  return kOwn.contains(field);
}

}  // namespace

std::string pack_key(const Request& r, const Checkpoint& c) {
  json key = json::object();
  const nlohmann::ordered_json fields = to_json(r);
  for (const auto& [name, value] : fields.items()) {
    if (!is_own(name)) key[name] = value;
  }
  key["begins_with_picture"] = r.init_img.has_value();
  key["repaints"] = r.repaints();
  if (!c.pixel) {
    const PromptShape shape = prompt_shape(r, c);
    key["prompt_parts"] = shape.parts;
    key["prompt_chunks"] = shape.chunks;
    key["loras"] = json::array();
    for (const LoraChoice& lora : loras_of(r))
      key["loras"].push_back({lora.file.string(), lora.unet, lora.text_encoder});
  }
  if (r.cfg_scale) key["guided"] = c.is_guided(*r.cfg_scale);
  // A distilled U-Net is told one guidance scale for all.
  if (c.unet.time_cond_proj_dim > 0) key["cfg_scale"] = *r.cfg_scale;
  return key.dump();
}

}  // namespace easel
