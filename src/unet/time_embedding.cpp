#include "unet/time_embedding.h"

#include <cmath>

namespace easel {

TimestepEmbedding::TimestepEmbedding(const Weights& w, int64_t in, int64_t out, int64_t cond_width)
    : linear_1(w / "linear_1", in, out), linear_2(w / "linear_2", out, out) {
  if (cond_width > 0) cond_proj = (w / "cond_proj").get("weight", {in, cond_width});
}

Tensor TimestepEmbedding::operator()(const Tensor& x, const Tensor& condition) const {
  const Tensor input = cond_proj && condition.defined() ? x + at::linear(condition, *cond_proj) : x;
  return linear_2(at::silu(linear_1(input)));
}

Tensor number_embeddings(const Tensor& numbers, int64_t width, bool flip_sin_to_cos, double freq_shift) {
  const Tensor flat = numbers.to(at::kCPU, at::kDouble).contiguous().flatten();
  std::vector<Tensor> waves;
  for (int64_t i = 0; i < flat.numel(); ++i)
    waves.push_back(timestep_embedding(flat.const_data_ptr<double>()[i], width, flip_sin_to_cos, freq_shift));
  return at::cat(waves).reshape({numbers.size(0), -1});
}

Tensor guidance_embedding(double scale, int64_t width) {
  const int64_t half = width / 2;
  // In the reference's order of float32 operations: at angles of thousands another rounding shows.
  const float step = std::log(10000.0F) / static_cast<float>(half - 1);
  const Tensor angle = at::exp(at::arange(half, at::kFloat) * -step) * static_cast<float>(1000.0 * (scale - 1.0));
  const Tensor wave = at::cat({angle.sin(), angle.cos()}).unsqueeze(0);
  return width % 2 ? at::constant_pad_nd(wave, {0, 1}) : wave;
}

}  // namespace easel
