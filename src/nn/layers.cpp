#include <cmath>

#include "easel/nn.h"
#include "easel/runtime.h"
#include "nn/cpu/attention.h"
#include "nn/cpu/geglu.h"
#include "nn/cpu/group_norm.h"
#include "nn/cpu/packed.h"

namespace easel {

namespace {

// Whether there is a packed one.
bool replace(Tensor& weight, Tensor packed, const Weights& w) {
  if (!packed.defined()) return false;
  weight = std::move(packed);
  w.drop_pages("weight");
  return true;
}

}  // namespace

Tensor add_changes(Tensor y, const Tensor& x, const std::vector<LowRank>& changes) {
  for (const LowRank& change : changes) {
    const Tensor down = change.down.view({change.down.size(0), -1});  // of a 1x1 convolution, too
    y.add_(at::linear(at::linear(x, down), change.up), change.scale);
  }
  return y;
}

Linear::Linear(const Weights& w, const Shape& shape, Bias has_bias)
    : weight(w.get("weight", shape, changes).view({shape[0], shape[1]})),
      bias(has_bias == Bias::kYes ? w.get("bias", {shape[0]}) : Tensor()) {
  if (w.is_packed()) is_packed = replace(weight, cpu::pack_linear(weight), w);
}

Linear::Linear(const Weights& w, int64_t in, int64_t out, Bias has_bias) : Linear(w, Shape{out, in}, has_bias) {}

Linear Linear::of_convolution(const Weights& w, int64_t in, int64_t out) {
  return Linear(w, Shape{out, in, 1, 1}, Bias::kYes);
}

Tensor Linear::operator()(const Tensor& x) const {
  return add_changes(is_packed ? cpu::linear(x, weight, bias) : at::linear(x, weight, bias), x, changes);
}

Conv2d::Conv2d(const Weights& w, const Shape2d& s)
    : weight(w.get("weight", {s.out, s.in, s.kernel, s.kernel}, changes)),
      bias(w.get("bias", {s.out})),
      stride(s.stride),
      padding(s.padding) {
  if (w.is_packed()) is_packed = replace(weight, cpu::pack_convolution(weight, stride, padding), w);
  // ATen would convert it at every call beside a channels-last input.
  if (!is_packed && s.kernel > 1) weight = weight.contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor Conv2d::operator()(const Tensor& x) const {
  Tensor y =
      is_packed ? cpu::convolution(x, weight, bias, stride, padding) : at::conv2d(x, weight, bias, stride, padding);
  for (const LowRank& change : changes) {
    const Tensor low = at::conv2d(x, change.down, /*bias=*/{}, stride, padding);
    y.add_(at::conv2d(low, change.up.unsqueeze(-1).unsqueeze(-1)), change.scale);
  }
  return y;
}

namespace {

bool is_fast(const Tensor& x) { return kernels() == Kernels::kFast && cpu::can_group_norm(x); }

}  // namespace

GroupNorm::GroupNorm(const Weights& w, int64_t channels, int64_t groups_, double eps_)
    : weight(w.get("weight", {channels})), bias(w.get("bias", {channels})), groups(groups_), eps(eps_) {}

Tensor GroupNorm::operator()(const Tensor& x) const {
  if (is_fast(x)) return cpu::group_norm(x, groups, weight, bias, eps, cpu::Activation::kNone);
  const Tensor y = at::group_norm(x, groups, weight, bias, eps);
  // CUDA's native_group_norm returns the contiguous layout.
  return x.device().is_cuda() ? y.contiguous(at::MemoryFormat::ChannelsLast) : y;
}

Tensor GroupNorm::silu(const Tensor& x) const {
  if (is_fast(x)) return cpu::group_norm(x, groups, weight, bias, eps, cpu::Activation::kSilu);
  Tensor y = (*this)(x);
  return at::silu_(y);
}

LayerNorm::LayerNorm(const Weights& w, int64_t width, double eps_)
    : weight(w.get("weight", {width})), bias(w.get("bias", {width})), eps(eps_) {}

Tensor LayerNorm::operator()(const Tensor& x) const { return at::layer_norm(x, weight.sizes(), weight, bias, eps); }

namespace {

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const Tensor& mask, bool causal) {
  const auto by_head = [heads](const Tensor& x) {  // [B, T, C] → [B, heads, T, C / heads]
    return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
  };
  std::optional<Tensor> given;
  if (mask.defined()) given = mask;
  const Tensor out =
      at::scaled_dot_product_attention(by_head(q), by_head(k), by_head(v), given, /*dropout_p=*/0.0, causal);
  return out.transpose(1, 2).reshape(q.sizes());
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, AttentionMask mask) {
  const bool fast = kernels() == Kernels::kFast && mask == AttentionMask::kNone && cpu::can_attend(q, k, v, heads);
  if (fast) return cpu::attention(q, k, v, heads);
  return attention(q, k, v, heads, Tensor(), mask == AttentionMask::kCausal);
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const Tensor& mask) {
  return attention(q, k, v, heads, mask, /*causal=*/false);
}

Tensor geglu(const Tensor& x) {
  if (kernels() == Kernels::kFast && cpu::can_geglu(x)) return cpu::geglu(x);
  const std::vector<Tensor> halves = x.chunk(2, -1);
  return at::gelu(halves[1]).mul_(halves[0]);
}

Tensor quick_gelu(const Tensor& x) { return x * at::sigmoid(1.702 * x); }

Tensor timestep_embedding(double t, int64_t width, bool flip_sin_to_cos, double freq_shift) {
  const int64_t half = width / 2;
  Tensor exponent = -std::log(10000.0) * at::arange(half, at::kFloat);
  exponent = exponent / (static_cast<double>(half) - freq_shift);
  const Tensor angle = (at::exp(exponent) * static_cast<float>(t)).unsqueeze(0);
  const Tensor sin = angle.sin(), cos = angle.cos();
  const Tensor wave = flip_sin_to_cos ? at::cat({cos, sin}, 1) : at::cat({sin, cos}, 1);
  return width % 2 ? at::constant_pad_nd(wave, {0, 1}) : wave;
}

Tensor to_tokens(const Tensor& x) {
  return x.permute({0, 2, 3, 1}).reshape({x.size(0), x.size(2) * x.size(3), x.size(1)});
}

Tensor from_tokens(const Tensor& tokens, int64_t height, int64_t width) {
  return tokens.view({tokens.size(0), height, width, tokens.size(2)}).permute({0, 3, 1, 2});
}

}  // namespace easel
