#include <cmath>

#include "easel/nn.h"
#include "easel/runtime.h"
#include "nn/cpu/attention.h"
#include "nn/cpu/geglu.h"
#include "nn/cpu/group_norm.h"
#include "nn/cpu/int8.h"
#include "nn/cpu/layer_norm.h"
#include "nn/cpu/packed.h"
#include "nn/cuda_kernels.h"
#include "nn/packing.h"

namespace easel {

Tensor add_changes(Tensor y, const Tensor& x, const std::vector<LowRank>& changes) {
  for (const LowRank& change : changes) {
    const Tensor down = change.down.view({change.down.size(0), -1});  // of a 1x1 convolution, too
    y.add_(at::linear(at::linear(x, down), change.up), change.scale);
  }
  return y;
}

Linear::Linear(const Weights& w, const Shape& shape, Bias has_bias)
    : weight(w.get("weight", shape, changes,
                   takes_panels(w, shape) ? Weights::Halves::kUnchecked : Weights::Halves::kConverted)
                 .view({shape[0], shape[1]})),
      bias(has_bias == Bias::kYes ? w.get("bias", {shape[0]}) : Tensor()) {
  if (is_int8(w, shape) && weight.is_cpu()) {
    const cpu::Int8Weight packed = cpu::pack_int8(weight);
    scales = packed.scales;
    sums = packed.sums;
    if (replace(weight, packed.values, w)) form = Form::kInt8;
  } else if (w.is_packed() && replace(weight, packed_linear(weight, w), w)) {
    form = Form::kPacked;
  }
}

Linear::Linear(const Weights& w, int64_t in, int64_t out, Bias has_bias) : Linear(w, Shape{out, in}, has_bias) {}

Linear Linear::of_convolution(const Weights& w, int64_t in, int64_t out) {
  return Linear(w, Shape{out, in, 1, 1}, Bias::kYes);
}

Tensor Linear::operator()(const Tensor& x) const { return (*this)(x, Tensor()); }

Tensor Linear::operator()(const Tensor& x, const Tensor& residual) const {
  switch (form) {
    case Form::kPacked:
      return add_changes(cpu::linear(x, weight, bias, residual), x, changes);
    case Form::kInt8:
      return add_changes(cpu::int8_linear(x, {weight, scales, sums}, bias, residual), x, changes);
    case Form::kPlain:
      break;
  }
  Tensor y = add_changes(at::linear(x, weight, bias), x, changes);
  return residual.defined() ? y.add_(residual) : y;
}

Tensor Linear::geglu(const Tensor& x) const {
  const bool at_once = form == Form::kPacked && changes.empty() && cpu::can_linear_geglu(weight);
  return at_once ? cpu::linear_geglu(x, weight, bias) : easel::geglu((*this)(x));
}

std::optional<Linear> Linear::side_by_side(const std::vector<const Linear*>& linears) {
  Linear all = *linears.front();
  std::vector<Tensor> weights;
  for (const Linear* linear : linears) {
    const Tensor& weight = linear->weight;
    if (linear->form != all.form || !linear->changes.empty() || linear->bias.defined()) return std::nullopt;
    if (weight.is_meta()) return std::nullopt;  // a stand-in for what is at fault
    const bool joins = all.form == Form::kPlain || (all.form == Form::kPacked && cpu::can_join(weight));
    if (!joins) return std::nullopt;
    weights.push_back(weight);
  }
  all.weight = at::cat(weights);
  return all;
}

namespace {

// By a kernel of our own; undefined where none takes x.
Tensor own_group_norm(const GroupNorm& norm, const Tensor& x, Activation activation) {
  if (kernels() != Kernels::kFast) return {};
  if (cpu::can_group_norm(x)) return cpu::group_norm(x, norm.groups, norm.weight, norm.bias, norm.eps, activation);
  if (!x.is_cuda() || !cuda::can_group_norm(x)) return {};
  return cuda::group_norm(x, norm.groups, norm.weight, norm.bias, norm.eps, activation);
}

}  // namespace

GroupNorm::GroupNorm(const Weights& w, int64_t channels, int64_t groups_, double eps_)
    : weight(w.get("weight", {channels})), bias(w.get("bias", {channels})), groups(groups_), eps(eps_) {}

Tensor GroupNorm::operator()(const Tensor& x) const {
  if (Tensor own = own_group_norm(*this, x, Activation::kNone); own.defined()) return own;
  const Tensor y = at::group_norm(x, groups, weight, bias, eps);
  // CUDA's native_group_norm returns the contiguous layout.
  return x.device().is_cuda() ? y.contiguous(at::MemoryFormat::ChannelsLast) : y;
}

Tensor GroupNorm::silu(const Tensor& x) const {
  if (Tensor own = own_group_norm(*this, x, Activation::kSilu); own.defined()) return own;
  Tensor y = (*this)(x);
  return at::silu_(y);
}

LayerNorm::LayerNorm(const Weights& w, int64_t width, double eps_)
    : weight(w.get("weight", {width})), bias(w.get("bias", {width})), eps(eps_) {}

Tensor LayerNorm::operator()(const Tensor& x) const {
  if (kernels() == Kernels::kFast && cpu::can_layer_norm(x)) return cpu::layer_norm(x, weight, bias, eps);
  return at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

SumAndNorm LayerNorm::of_sum(const Linear& linear, const Tensor& x, const Tensor& residual) const {
  if (kernels() == Kernels::kFast && x.is_cuda()) {
    Tensor sum = linear(x);
    if (cuda::can_add_and_layer_norm(sum, residual)) {
      Tensor norm = cuda::add_and_layer_norm(sum, residual, weight, bias, eps);
      return {std::move(sum), std::move(norm)};
    }
    sum.add_(residual);
    return {sum, (*this)(sum)};
  }
  Tensor sum = linear(x, residual);
  return {sum, (*this)(sum)};
}

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
  if (kernels() == Kernels::kFast && x.is_cuda() && cuda::can_geglu(x)) return cuda::geglu(x);
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
