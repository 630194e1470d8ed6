// How much memory a picture takes, known before the first step.
#include <algorithm>

#include "pipeline/stages.h"

namespace easel {

namespace {

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
    if (!s.levels[i].down_attention && !s.levels[i].up_attention) continue;
    values += 12 * s.levels[i].channels * std::max<int64_t>(1, latent_pixels >> (2 * i));
    break;
  }
  return batch * values;
}

// Four pictures of the widest channels that reach full size (measured: 1.1 GB of 1.07 at 512x512 in SD1.x).
int64_t decoder_activations(const VaeSpec& s, int64_t pixels) {
  const auto& channels = s.block_out_channels;
  return 4 * channels[std::min<std::size_t>(1, channels.size() - 1)] * pixels;
}

}  // namespace

void check_memory(const Checkpoint& c, const Request& r, const Precision& precision, int64_t bytes_to_load) {
  const int64_t pixels = *r.width * *r.height;
  const int64_t latent_pixels = pixels / (c.vae.factor() * c.vae.factor());
  const auto unet_bytes = static_cast<int64_t>(c10::elementSize(precision.unet));
  const auto vae_bytes = static_cast<int64_t>(c10::elementSize(precision.vae));
  const int64_t activations = std::max(unet_bytes * unet_activations(c.unet, latent_pixels, *r.cfg_scale > 1 ? 2 : 1),
                                       vae_bytes * decoder_activations(c.vae, pixels));
  const int64_t needed = bytes_to_load + activations;
  const int64_t available = precision.device.is_cpu()
                                ? available_memory_bytes()
                                : cuda_devices().at(static_cast<std::size_t>(precision.device.index())).free_bytes;
  log::verbose("memory: " + gigabytes(bytes_to_load) + " of weights to load, " + gigabytes(activations) +
               " for the picture, " + gigabytes(available) + " available");
  if (needed > available)
    throw Error(ErrorKind::kMemory,
                "a picture of " + std::to_string(*r.width) + "x" + std::to_string(*r.height) + " needs about " +
                    gigabytes(needed) + " of memory (" + gigabytes(bytes_to_load) + " of it weights), " +
                    gigabytes(available) + " are available",
                "a smaller -W and -H, or --dtype bf16, needs less");
}

}  // namespace easel
