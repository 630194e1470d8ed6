#include <torch/headeronly/version.h>

#include "easel/pipeline.h"

namespace easel {

namespace {

std::string picture_fields(const Request& r) {
  std::string text;
  const auto strength = r.hires ? r.hires_strength : r.strength;
  if (strength) text += ", Denoising strength: " + plain(*strength);
  if (r.mask_blur) text += ", Mask blur: " + plain(*r.mask_blur);
  if (r.hires)
    text += ", Hires upscale: " + plain(*r.hires) + ", Hires steps: " + std::to_string(*r.hires_steps) +
            ", Hires upscaler: " + (*r.hires_upscaler == "latent" ? "Latent (bicubic)" : "Lanczos");
  return text;
}

// As sd-webui-controlnet writes them.
std::string control_fields(const Request& r, const ModelHashes& hashes) {
  std::string text;
  for (std::size_t i = 0; r.control_net && i < r.control_net->size(); ++i) {
    const std::string name = adapter_name((*r.control_net)[i]);
    text += ", ControlNet " + std::to_string(i) + ": \"Module: " + (r.canny.value_or(false) ? "canny" : "none") +
            ", Model: " + name + " [" + hashes.controls.at(name).substr(0, 8) +
            "], Weight: " + plain((*r.control_strength)[i]) + ", Guidance Start: " + plain((*r.control_start)[i]) +
            ", Guidance End: " + plain((*r.control_end)[i]) +
            ", Control Mode: " + (r.control_guess.value_or(false) ? "ControlNet is more important" : "Balanced") + "\"";
  }
  return text;
}

// A1111's infotext: other programs read it, so its names and order are kept.
std::string infotext(const Request& r, const ModelHashes& hashes, const Checkpoint& c) {
  std::string text = *r.prompt;
  if (r.negative_prompt && !r.negative_prompt->empty()) text += "\nNegative prompt: " + *r.negative_prompt;
  text += "\nSteps: " + std::to_string(*r.steps) + ", Sampler: " + *r.sampler;
  if (r.scheduler && *r.scheduler != "model") text += ", Schedule type: " + *r.scheduler;
  if (r.cfg_scale) text += ", CFG scale: " + plain(*r.cfg_scale);
  text += ", Seed: " + std::to_string(*r.seed) + ", Size: " + std::to_string(*r.width) + "x" +
          std::to_string(*r.height) + ", Model hash: " + hashes.model.substr(0, 10) + ", Model: " + c.name();
  if (r.eta && *r.eta > 0) text += ", Eta: " + plain(*r.eta);
  if (r.cfg_rescale && *r.cfg_rescale > 0) text += ", CFG Rescale: " + plain(*r.cfg_rescale);
  if (r.clip_skip && *r.clip_skip != c.own_clip_skip()) text += ", Clip skip: " + std::to_string(*r.clip_skip);
  if (c.other_vae)
    text += ", VAE hash: " + hashes.vae.substr(0, 10) + ", VAE: " + c.other_vae->path.filename().string();
  std::string loras;
  for (const auto& [name, hash] : hashes.loras) loras += (loras.empty() ? "" : ", ") + name + ": " + hash.substr(0, 10);
  if (!loras.empty()) text += ", Lora hashes: \"" + loras + "\"";
  text += picture_fields(r) + control_fields(r, hashes);
  if (c.refiner) text += ", Refiner: " + c.refiner->name() + ", Refiner switch at: " + plain(*r.refiner_start);
  return text + ", Version: easel " EASEL_VERSION;
}

}  // namespace

std::vector<PngText> png_texts(const Request& resolved, const ModelHashes& models, const Checkpoint& checkpoint) {
  ModelHashes hashes = models;
  add_adapter_hashes(hashes, resolved);
  nlohmann::ordered_json exact = to_json(resolved);
  exact["model_hash"] = hashes.model;
  if (!hashes.vae.empty()) exact["vae_hash"] = hashes.vae;
  if (!hashes.refiner.empty()) exact["refiner_hash"] = hashes.refiner;
  if (!hashes.loras.empty()) exact["lora_hashes"] = hashes.loras;
  if (!hashes.controls.empty()) exact["control_hashes"] = hashes.controls;
  exact["versions"] = {{"easel", EASEL_VERSION}, {"libtorch", TORCH_VERSION}};
  return {{"parameters", infotext(resolved, hashes, checkpoint)}, {"easel", exact.dump()}};
}

}  // namespace easel
