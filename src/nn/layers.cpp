#include <cmath>

#include "easel/nn.h"
#include "nn/cpu/group_norm.h"

namespace easel {

Tensor add_changes(Tensor y, const Tensor& x, const std::vector<LowRank>& changes) {
  for (const LowRank& change : changes) {
    const Tensor down = change.down.view({change.down.size(0), -1});  // of a 1x1 convolution, too
    y.add_(at::linear(at::linear(x, down), change.up), change.scale);
  }
  return y;
}

Linear::Linear(const Weights& w, int64_t in, int64_t out, Bias has_bias)
    : weight(w.get("weight", {out, in}, changes)), bias(has_bias == Bias::kYes ? w.get("bias", {out}) : Tensor()) {}

Tensor Linear::operator()(const Tensor& x) const { return add_changes(at::linear(x, weight, bias), x, changes); }

Conv2d::Conv2d(const Weights& w, const Shape2d& s)
    : weight(w.get("weight", {s.out, s.in, s.kernel, s.kernel}, changes)),
      bias(w.get("bias", {s.out})),
      stride(s.stride),
      padding(s.padding) {
  // ATen would convert it at every call beside a channels-last input.
  if (weight.defined() && s.kernel > 1) weight = weight.contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor Conv2d::operator()(const Tensor& x) const {
  Tensor y = at::conv2d(x, weight, bias, stride, padding);
  for (const LowRank& change : changes) {
    const Tensor low = at::conv2d(x, change.down, /*bias=*/{}, stride, padding);
    y.add_(at::conv2d(low, change.up.unsqueeze(-1).unsqueeze(-1)), change.scale);
  }
  return y;
}

GroupNorm::GroupNorm(const Weights& w, int64_t channels, int64_t groups_, double eps_)
    : weight(w.get("weight", {channels})), bias(w.get("bias", {channels})), groups(groups_), eps(eps_) {}

Tensor GroupNorm::operator()(const Tensor& x) const {
  if (cpu::can_group_norm(x)) return cpu::group_norm(x, groups, weight, bias, eps, cpu::Activation::kNone);
  const Tensor y = at::group_norm(x, groups, weight, bias, eps);
  // CUDA's native_group_norm returns the contiguous layout.
  return x.device().is_cuda() ? y.contiguous(at::MemoryFormat::ChannelsLast) : y;
}

Tensor GroupNorm::silu(const Tensor& x) const {
  if (cpu::can_group_norm(x)) return cpu::group_norm(x, groups, weight, bias, eps, cpu::Activation::kSilu);
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
  return attention(q, k, v, heads, Tensor(), mask == AttentionMask::kCausal);
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const Tensor& mask) {
  return attention(q, k, v, heads, mask, /*causal=*/false);
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
