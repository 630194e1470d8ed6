#include "pipeline/memory_plan.h"

#include <algorithm>

#include "pipeline/picture_request.h"
#include "pipeline/prompt_plan.h"

namespace easel {

namespace {

using Kind = MemoryPhase::Kind;

std::string gigabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

// What lives at once on the finest level of the way up: the skips of that level, the concatenation, a ResNet block's
// input and output, and the feed-forward of the finest attention (value and gate: 8 widths, their product: 4).
int64_t unet_activations(const UNetSpec& s, int64_t latent_pixels, int64_t batch) {
  const UNetLevel& finest = s.levels.front();
  int64_t values = (finest.layers + 5) * finest.channels * latent_pixels;
  for (std::size_t i = 0; i < s.levels.size(); ++i) {
    if (!s.levels[i].has_attention()) continue;
    values += 12 * s.levels[i].channels * std::max<int64_t>(1, latent_pixels >> (2 * i));
    break;
  }
  return batch * values;
}

// Pictures of full size at once, measured in SD 1.x at 512x512 and 1024x1024 in float32 and bfloat16: 2.6 of the widest
// channels that reach it in the decoder (a ResNet block narrows them), 3.9 to 4.1 of the encoder's finest.
int64_t decoder_activations(const VaeSpec& s, int64_t pixels) {
  const auto& channels = s.block_out_channels;
  return channels[std::min<std::size_t>(1, channels.size() - 1)] * pixels * 5 / 2;
}

int64_t encoder_activations(const VaeSpec& s, int64_t pixels) {
  // A block's input, and what two of its convolutions read and write.
  if (s.tiny) return s.tiny->encoder_channels * pixels * 5 / 2;
  return s.block_out_channels.front() * pixels * 15 / 4;
}

// In strips: the finest level's activation as it is stored, and the strips (measured: 7 to 11 of them).
int64_t activations_in_strips(const VaeSpec& s, int64_t pixels, int64_t size) {
  constexpr int64_t kStrips = 6;
  return s.block_out_channels.front() * pixels * size + kStrips * kStripBytes;
}

int64_t size_of(at::ScalarType dtype) { return static_cast<int64_t>(c10::elementSize(dtype)); }

MemoryPhase text_phase(StageSet& nets, const std::string& name) {
  MemoryPhase phase = {Kind::kText, name, 0, 0};
  for (const Part part : parts_of(nets.checkpoint())) {
    if (part == Part::kTextEncoder || part == Part::kTextEncoder2) phase.weights += nets.bytes_of(part);
  }
  return phase;
}

MemoryPhase unet_phase(StageSet& nets, const std::string& name, const Request& r, int64_t pictures) {
  const Checkpoint& c = nets.checkpoint();
  const int64_t latent_pixels = *r.width * *r.height / (c.vae.factor() * c.vae.factor());
  const int64_t rows = prompt_shape(r, c).parts + (c.is_guided(*r.cfg_scale) ? 1 : 0);
  const int64_t values = unet_activations(c.unet, latent_pixels, rows * pictures);
  return {Kind::kUNet, name, nets.bytes_of(Part::kUNet) + nets.control_bytes(),
          values * size_of(nets.precision().unet)};
}

// A VAE's network that needs `values` for the picture at once. Strips never take more than the whole.
MemoryPhase vae_phase(StageSet& nets, MemoryPhase::Kind kind, const std::string& name, int64_t weights, int64_t values,
                      int64_t pixels) {
  const int64_t size = size_of(nets.precision().vae), whole = values * size;
  return {kind, name, weights, whole, std::min(whole, activations_in_strips(nets.checkpoint().vae, pixels, size))};
}

MemoryPhase encoder_phase(StageSet& nets, const Request& r) {
  const int64_t pixels = *r.width * *r.height;
  return vae_phase(nets, Kind::kEncoder, "the VAE's encoder", nets.vae_encoder_bytes(),
                   encoder_activations(nets.checkpoint().vae, pixels), pixels);
}

MemoryPhase decoder_phase(StageSet& nets, const Request& r) {
  const VaeSpec& vae = nets.checkpoint().vae;
  const int64_t pixels = *r.width * *r.height, tile = kTile * vae.factor();
  const int64_t at_once = r.vae_tiling_fast.value_or(false) ? std::min(pixels, tile * tile) : pixels;
  return vae_phase(nets, Kind::kVae, "the VAE", nets.bytes_of(Part::kVae), decoder_activations(vae, at_once), pixels);
}

int64_t loaded_bytes(StageSet& nets) {
  int64_t bytes = 0;
  for (const Part part : parts_of(nets.checkpoint())) {
    if (nets.is_loaded(part)) bytes += nets.bytes_of(part);
  }
  return bytes;
}

MemoryPlan plan_with(const std::vector<MemoryPhase>& phases, bool free_text, bool free_unet, bool strips) {
  MemoryPlan plan = {free_text, free_unet, strips, 0, ""};
  int64_t kept = 0;
  for (const MemoryPhase& phase : phases) {
    const int64_t activations = strips && phase.in_strips >= 0 ? phase.in_strips : phase.activations;
    const int64_t at_work = kept + phase.weights + activations;
    if (at_work > plan.peak) {
      plan.peak = at_work;
      plan.largest = phase.name;
    }
    const bool early = phase.kind == Kind::kText || phase.kind == Kind::kEncoder;
    const bool freed = early ? free_text : phase.kind == Kind::kUNet && free_unet;
    if (!freed) kept += phase.weights;
  }
  return plan;
}

}  // namespace

MemoryPlan plan_memory(const std::vector<MemoryPhase>& phases, int64_t available, bool strips) {
  for (const auto& [free_text, free_unet] : {std::pair{false, false}, {true, false}, {true, true}}) {
    const MemoryPlan plan = plan_with(phases, free_text, free_unet, strips);
    if (plan.peak <= available) return plan;
  }
  return strips ? plan_with(phases, true, true, true) : plan_memory(phases, available, /*strips=*/true);
}

std::vector<MemoryPhase> memory_phases(const Request& r, StageSet& nets, StageSet* refiner, int64_t pictures) {
  const std::optional<Request> enlarged = second_pass(r);
  const Request& large = enlarged ? *enlarged : r;
  std::vector<MemoryPhase> phases = {text_phase(nets, "the text encoders")};
  if (refiner != nullptr) phases.push_back(text_phase(*refiner, "the refiner's text encoder"));
  if (r.init_img || (enlarged && enlarged->hires_upscaler != "latent")) phases.push_back(encoder_phase(nets, large));
  phases.push_back(unet_phase(nets, "the U-Net", large, pictures));
  if (refiner != nullptr) phases.push_back(unet_phase(*refiner, "the refiner's U-Net", r, pictures));
  phases.push_back(decoder_phase(nets, large));
  return phases;
}

int64_t usable_memory(StageSet& nets, StageSet* refiner) {
  const at::Device device = nets.precision().device;
  // A CUDA device's free memory is of the time when it was found, before anything was loaded.
  if (!device.is_cpu()) return cuda_devices().at(static_cast<std::size_t>(device.index())).free_bytes;
  return available_memory_bytes() + loaded_bytes(nets) + (refiner != nullptr ? loaded_bytes(*refiner) : 0);
}

MemoryPlan check_memory(const Request& r, const std::vector<MemoryPhase>& phases, int64_t available, int64_t pictures) {
  const bool asked = r.vae_tiling.value_or(false) || r.vae_tiling_fast.value_or(false);
  const MemoryPlan plan = plan_memory(phases, available, asked);
  if (plan.strips && !asked && plan.peak <= available)
    log::note("the VAE works strip by strip, for want of memory (as with --vae-tiling)");
  std::string all;
  for (const MemoryPhase& phase : phases) {
    const std::string work = phase.activations > 0 ? " + " + gigabytes(phase.activations) : "";
    all += (all.empty() ? "" : ", ") + phase.name + " " + gigabytes(phase.weights) + work;
  }
  log::verbose("memory: " + all + "; at most " + gigabytes(plan.peak) + " at once (" + plan.largest + "), " +
               gigabytes(available) + " available; " +
               (plan.free_unet   ? "every network is freed when it is done"
                : plan.free_text ? "text encoders are freed before sampling"
                                 : "all networks are kept"));
  if (plan.peak > available)
    throw Error(
        ErrorKind::kMemory,
        (pictures == 1 ? "a picture of " : std::to_string(pictures) + " pictures at once of ") +
            std::to_string(*r.width) + "x" + std::to_string(*r.height) +
            (pictures == 1 ? " needs about " : " need about ") + gigabytes(plan.peak) + " of memory for " +
            plan.largest + " alone, " + gigabytes(available) + " are available",
        pictures == 1 ? "a smaller -W and -H, or --dtype bf16, needs less" : "a smaller --batch-size needs less");
  return plan;
}

}  // namespace easel
