// The rule of scripts/golden/random_weights.py: change both together.
#include <array>
#include <cmath>

#include "easel/runtime.h"
#include "easel/weights.h"

namespace easel {

namespace {

// Gain = standard deviation × sqrt(fan in) of matrices and convolutions, by the begin and the end of "part/key"; the
// first match holds, else 1. The reasons are beside the Python table.
struct Gain {
  std::string_view begin, end;
  double value;
};
constexpr std::array kGains = {
    Gain{"unet/", "/conv_in.weight", 0.5},
    Gain{"unet/", "/conv_out.weight", 1.5},
    Gain{"vae/", "decoder.conv_in.weight", 0.1},
    Gain{"vae/", "decoder.conv_out.weight", 0.6},
    Gain{"unet/", "upsamplers.0.conv.weight", 2.0},
    Gain{"vae/", "upsamplers.0.conv.weight", 0.5},
    Gain{"", "to_q.weight", 2.0},
    Gain{"", "to_k.weight", 2.0},
    Gain{"", "q_proj.weight", 2.0},
    Gain{"", "k_proj.weight", 2.0},
    Gain{"", "conv2.weight", 2.0},
    Gain{"", "to_out.0.weight", 2.0},
    Gain{"", "ff.net.2.weight", 2.0},
    Gain{"", "proj_out.weight", 2.0},
    Gain{"", "out_proj.weight", 2.0},
    Gain{"", "fc2.weight", 2.0},
};

double gain_of(const std::string& key) {
  for (const Gain& gain : kGains) {
    if (key.starts_with(gain.begin) && key.ends_with(gain.end)) return gain.value;
  }
  return 1;
}

// zlib's CRC-32 (IEEE 802.3, reflected).
uint32_t crc32(std::string_view bytes) {
  constexpr uint32_t kPolynomial = 0xEDB88320;
  uint32_t crc = ~uint32_t{0};
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? kPolynomial : 0);
  }
  return ~crc;
}

class RandomSource : public WeightSource {
 public:
  RandomSource(std::string part, uint32_t seed, at::ScalarType dtype)
      : part_(std::move(part)), seed_(seed), dtype_(dtype) {}

  std::vector<std::string> names() const override { return {}; }
  std::optional<TensorInfo> info(const std::string&) const override { return std::nullopt; }
  Tensor load(const std::string& name) const override {
    TORCH_CHECK(false, "random weights need a shape: ", part_, name);
  }
  Tensor load(const std::string& name, at::IntArrayRef shape) const override {
    return random_weight(part_ + name, shape, seed_).to(dtype_);
  }
  std::string describe() const override { return "random weights " + part_ + ", seed " + std::to_string(seed_); }

 private:
  std::string part_;
  uint32_t seed_;
  at::ScalarType dtype_;
};

}  // namespace

Tensor random_weight(const std::string& key, at::IntArrayRef shape, uint32_t seed) {
  const Tensor z = RandomStream(crc32(key) ^ seed).randn(shape);
  if (key.ends_with(".bias")) return 0.5 * z;
  if (shape.size() == 1) return 1 + 0.3 * z;  // a norm's scale
  if (key.ends_with("_embedding.weight")) return 0.5 * z;
  double fan_in = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) fan_in *= static_cast<double>(shape[i]);
  return z * (gain_of(key) / std::sqrt(fan_in));
}

SourcePtr random_source(std::string part, uint32_t seed, at::ScalarType dtype) {
  return std::make_shared<RandomSource>(std::move(part), seed, dtype);
}

}  // namespace easel
