#include <torch/headeronly/version.h>

#include "easel/pipeline.h"

namespace easel {

namespace {

// A1111's infotext: other programs read it, so its names and order are kept.
std::string infotext(const Request& r, const std::string& hash, const Checkpoint& c) {
  std::string text = *r.prompt;
  if (r.negative_prompt && !r.negative_prompt->empty()) text += "\nNegative prompt: " + *r.negative_prompt;
  text += "\nSteps: " + std::to_string(*r.steps) + ", Sampler: " + *r.sampler + ", CFG scale: " + plain(*r.cfg_scale) +
          ", Seed: " + std::to_string(*r.seed) + ", Size: " + std::to_string(*r.width) + "x" +
          std::to_string(*r.height) + ", Model hash: " + hash.substr(0, 10) + ", Model: " + c.name();
  if (r.eta && *r.eta > 0) text += ", Eta: " + plain(*r.eta);
  if (*r.clip_skip != 1) text += ", Clip skip: " + std::to_string(*r.clip_skip);
  return text + ", Version: easel " EASEL_VERSION;
}

}  // namespace

std::vector<PngText> png_texts(const Request& resolved, const std::string& hash, const Checkpoint& checkpoint) {
  nlohmann::ordered_json exact = to_json(resolved);
  exact["model_hash"] = hash;
  exact["versions"] = {{"easel", EASEL_VERSION}, {"libtorch", TORCH_VERSION}};
  return {{"parameters", infotext(resolved, hash, checkpoint)}, {"easel", exact.dump()}};
}

}  // namespace easel
