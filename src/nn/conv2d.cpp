#include "easel/nn.h"
#include "nn/cpu/amx_convolution.h"
#include "nn/cpu/amx_weight.h"
#include "nn/cpu/group_norm.h"
#include "nn/cpu/packed.h"
#include "nn/cpu/panels.h"
#include "nn/cpu/winograd.h"
#include "nn/packing.h"

namespace easel {

namespace {

using Form = Conv2d::Form;
using Halves = Weights::Halves;

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

}  // namespace easel
