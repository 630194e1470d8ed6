#include <cmath>

#include "easel/nn.h"
#include "easel/runtime.h"
#include "nn/cpu/amx_convolution.h"
#include "nn/cpu/amx_weight.h"
#include "nn/cpu/attention.h"
#include "nn/cpu/geglu.h"
#include "nn/cpu/group_norm.h"
#include "nn/cpu/int8.h"
#include "nn/cpu/layer_norm.h"
#include "nn/cpu/packed.h"
#include "nn/cpu/panels.h"
#include "nn/cpu/winograd.h"
#include "nn/cuda_kernels.h"

namespace easel {

namespace {

// Whether there is a packed one.
bool replace(Tensor& weight, Tensor packed, const Weights& w) {
  if (!packed.defined()) return false;
  weight = std::move(packed);
  w.drop_pages("weight");
  return true;
}

using Halves = Weights::Halves;

bool is_int8(const Weights& w, const Shape& shape) { return w.is_int8() && cpu::can_int8(shape[1], shape[0]); }

bool takes_panels(const Weights& w, const Shape& linear) {
  return w.is_packed() && !is_int8(w, linear) && cpu::can_panels(linear[1], linear[0], w.dtype());
}

// Beside x of that dtype.
Tensor in_panels(const Tensor& weight, const Weights& w, at::ScalarType dtype) {
  cpu::PackedPanels packed = cpu::pack_panels(weight, dtype);
  if (!packed.finite) w.not_finite("weight");
  return std::move(packed.weight);
}

// Undefined where the weight is none of sixteen bits.
Tensor halves_in_panels(const Tensor& weight, const Weights& w) {
  return weight.is_cpu() && weight.element_size() == 2 ? in_panels(weight, w, w.dtype()) : Tensor();
}

Tensor packed_linear(const Tensor& weight, const Weights& w) {
  const Tensor panels = takes_panels(w, weight.sizes().vec()) ? halves_in_panels(weight, w) : Tensor();
  return panels.defined() || !w.packs_slowly() ? panels : cpu::pack_linear(weight);
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
    : weight(w.get("weight", shape, changes, takes_panels(w, shape) ? Halves::kUnchecked : Halves::kConverted)
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

using Form = Conv2d::Form;

// That packing would bring the weight into.
Form packed_form(const Shape& weight, const Conv2d::Shape2d& s, at::ScalarType dtype) {
  const bool is_same_size = s.stride == 1 && 2 * s.padding == s.kernel - 1;
  // oneDNN packs a 1x1 convolution for a picture of unknown size otherwise than it wants it for most.
  if (is_same_size && s.kernel == 1) return Form::kLinear;
  if (is_same_size && s.kernel == 3 && dtype == at::kBFloat16 && cpu::amx::can_pack(s.in, s.out)) return Form::kTiles;
  return is_same_size && cpu::can_winograd(weight, dtype) ? Form::kWinograd : Form::kPacked;
}

Halves halves_of(Form form, const Shape& weight, const Weights& w) {
  if (!w.is_packed()) return Halves::kConverted;
  if (form == Form::kWinograd || form == Form::kTiles) return Halves::kUnchecked;
  const bool has_panels = form == Form::kLinear ? cpu::can_panels(weight[1], weight[0], w.dtype())
                                                : cpu::can_panel_convolution(weight, w.dtype());
  return has_panels ? Halves::kUnchecked : Halves::kConverted;
}

}  // namespace

Conv2d::Conv2d(const Weights& w, const Shape2d& s)
    : kernel(s.kernel), stride(s.stride), padding(s.padding), out(s.out) {
  const Shape shape = {s.out, s.in, s.kernel, s.kernel};
  const Form packed = packed_form(shape, s, w.dtype());
  weight = w.get("weight", shape, changes, halves_of(packed, shape, w));
  bias = s.has_bias == Bias::kYes ? w.get("bias", {s.out})
                                  : at::zeros({s.out}, at::TensorOptions(w.dtype()).device(w.device()));
  if (w.is_packed()) pack(packed, w);
  // ATen would convert it at every call beside a channels-last input.
  if (form == Form::kPlain && s.kernel > 1) weight = weight.contiguous(at::MemoryFormat::ChannelsLast);
}

void Conv2d::pack(Form as, const Weights& w) {
  Tensor packed;
  if (as == Form::kWinograd && weight.is_cpu()) {
    packed = in_panels(weight, w, at::kFloat);
  } else if (as == Form::kTiles && weight.is_cpu()) {
    packed = halves_in_panels(weight, w);
  } else if (as == Form::kLinear) {
    packed = packed_linear(weight.flatten(1), w);
  } else if (as == Form::kPacked) {
    if (halves_of(as, weight.sizes().vec(), w) == Halves::kUnchecked) packed = halves_in_panels(weight, w);
    if (!packed.defined()) packed = cpu::pack_convolution(weight, {kernel, stride, padding});
  }
  if (replace(weight, std::move(packed), w)) form = as;
}

int64_t packed_bytes(const Shape& weight, at::ScalarType dtype, at::ScalarType stored) {
  const auto is_kept = [&] {
    if (c10::elementSize(stored) != 2 || weight.size() < 2) return false;
    const bool is_linear = weight.size() == 2 || weight[2] * weight[3] == 1;
    return is_linear ? cpu::can_panels(weight[1], weight[0], dtype)
                     : cpu::can_winograd(weight, dtype) || cpu::can_panel_convolution(weight, dtype);
  };
  return c10::multiply_integers(weight) * static_cast<int64_t>(c10::elementSize(is_kept() ? stored : dtype));
}

namespace {

Tensor plus(Tensor y, const Added& added) {
  if (added.shift.defined()) y.add_(added.shift.unsqueeze(-1).unsqueeze(-1));
  if (added.residual.defined()) y.add_(added.residual);
  return y;
}

// bias [out] and shift [1 or B, out], in float32.
Tensor joined(const Tensor& bias, const Tensor& shift) {
  const Tensor sum = bias.to(at::kFloat).unsqueeze(0);
  return shift.defined() ? (sum + shift.to(at::kFloat)).contiguous() : sum;
}

// Whether one of the kernels that see a picture in more than one way takes it.
bool is_own(const Conv2d& conv, int64_t batch, int64_t height, int64_t width) {
  return conv.form == Form::kTiles || (conv.form == Form::kWinograd && cpu::pays_winograd(batch, height, width));
}
bool is_own(const Conv2d& conv, const Tensor& x) { return is_own(conv, x.size(0), x.size(2), x.size(3)); }

Tensor own(const Conv2d& conv, const cpu::Seen& seen, const Added& added) {
  const cpu::AddedToPixels pixels{joined(conv.bias, added.shift), added.residual, added.may_overwrite};
  if (conv.form == Form::kTiles) return cpu::amx::convolution(seen, conv.weight, pixels);
  return cpu::winograd_convolution(seen, conv.weight, pixels);
}

Tensor packed(const Conv2d& conv, const Tensor& x, const Added& added) {
  const auto convolution = [&](const Tensor& bias, const Tensor& residual) {
    const cpu::Patches patches{conv.kernel, conv.stride, conv.padding};
    if (conv.form == Form::kWinograd) return cpu::panel_convolution(x, conv.weight, bias, patches, residual);
    return cpu::convolution(x, conv.weight, bias, patches, residual);
  };
  // oneDNN cannot describe a residual of one pixel: its strides are as good as any.
  const bool is_pixel = added.residual.defined() && added.residual.size(2) * added.residual.size(3) == 1;
  if (is_pixel) return plus(convolution(conv.bias, {}), added);
  if (!added.shift.defined()) return convolution(conv.bias, added.residual);
  if (added.shift.size(0) > 1) return plus(convolution(conv.bias, {}), added);
  return plus(convolution(joined(conv.bias, added.shift)[0], {}), {.shift = {}, .residual = added.residual});
}

Tensor by_pixel(const Conv2d& conv, const Tensor& x, const Added& added) {
  const Tensor residual = added.residual.defined() ? to_tokens(added.residual) : Tensor();
  const Tensor y = cpu::linear(to_tokens(x), conv.weight, conv.bias, residual);
  return plus(from_tokens(y, x.size(2), x.size(3)), {.shift = added.shift, .residual = {}});
}

}  // namespace

Tensor Conv2d::operator()(const Tensor& x, const Added& added) const {
  switch (form) {
    case Form::kLinear:
      return add_low_ranks(by_pixel(*this, x, added), x);
    case Form::kWinograd:
    case Form::kTiles:
      if (is_own(*this, x)) return add_low_ranks(own(*this, {x, x.size(2), x.size(3)}, added), x);
      [[fallthrough]];
    case Form::kPacked:
      return add_low_ranks(packed(*this, x, added), x);
    case Form::kPlain:
      return add_low_ranks(plus(at::conv2d(x, weight, bias, stride, padding), added), x);
  }
  return {};
}

Tensor Conv2d::of_norm_silu(const GroupNorm& norm, const Tensor& x, const Added& added) const {
  const bool at_once = is_own(*this, x) && changes.empty() && cpu::can_group_norm(x);
  if (!at_once) return (*this)(norm.silu(x), added);
  const cpu::ChannelAffine affine = cpu::group_norm_affine(x, norm.groups, norm.weight, norm.bias, norm.eps);
  return own(*this, {x, x.size(2), x.size(3), affine}, added);
}

Tensor Conv2d::upsampled(const Tensor& x, int64_t height, int64_t width) const {
  if (is_own(*this, x.size(0), height, width) && changes.empty()) return own(*this, {x, height, width}, {});
  return (*this)(at::upsample_nearest2d(x, {height, width}));
}

Tensor Conv2d::add_low_ranks(Tensor y, const Tensor& x) const {
  for (const LowRank& change : changes) {
    const Tensor low = at::conv2d(x, change.down, /*bias=*/{}, stride, padding);
    y.add_(at::conv2d(low, change.up.unsqueeze(-1).unsqueeze(-1)), change.scale);
  }
  return y;
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
