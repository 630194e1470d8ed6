#include "nn/cpu/packed.h"

#include <ATen/core/dispatch/Dispatcher.h>

namespace easel::cpu {

namespace {

using Bias = std::optional<Tensor>;
using Scalars = torch::List<std::optional<at::Scalar>>;
using Word = std::optional<std::string_view>;

// libtorch's operators for its compiler (torch.compile's CPU back end): it has no C++ functions for them.
template <class Signature>
auto find_operator(const char* name, const char* overload = "") {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

bool has_panels(const Tensor& weight) {
  return weight.is_cpu() && (weight.scalar_type() == at::kBFloat16 || weight.scalar_type() == at::kHalf);
}

bool can_pack(const Tensor& weight) {
  if (!weight.is_cpu() || !at::globalContext().hasMKLDNN()) return false;
  static const bool bf16 = find_operator<bool()>("mkldnn::_is_mkldnn_bf16_supported").call();
  return weight.scalar_type() == at::kFloat || (weight.scalar_type() == at::kBFloat16 && bf16);
}

// Then it should lie so that columns of the result are neighbours.
bool is_small(const Tensor& weight) {
  return weight.scalar_type() == at::kFloat && std::min(weight.size(0), weight.size(1)) <= kMostOfSmall;
}

Bias bias_of(const Tensor& bias) { return bias.defined() ? Bias(bias) : std::nullopt; }

}  // namespace

Tensor pack_linear(const Tensor& weight) {
  if (!can_pack(weight)) return {};
  if (is_small(weight)) return weight.t().contiguous().t();
  static const auto reorder =
      find_operator<Tensor(const Tensor&, std::optional<c10::SymInt>)>("mkldnn::_reorder_linear_weight");
  return reorder.call(weight, std::nullopt);
}

Tensor pack_convolution(const Tensor& weight, const Patches& c) {
  if (!can_pack(weight)) return {};
  using Sizes = c10::SymIntArrayRef;
  static const auto reorder =
      find_operator<Tensor(const Tensor&, Sizes, Sizes, Sizes, c10::SymInt, at::OptionalSymIntArrayRef)>(
          "mkldnn::_reorder_convolution_weight");
  const std::array<c10::SymInt, 2> strides = {c.stride, c.stride}, paddings = {c.padding, c.padding}, ones = {1, 1};
  return reorder.call(weight, paddings, strides, ones, 1, std::nullopt);
}

namespace {

Tensor onednn_linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual) {
  using Plain = Tensor(const Tensor&, const Tensor&, const Bias&, std::string_view, Scalars, Word);
  using Binary = Tensor(const Tensor&, const Tensor&, const Tensor&, const Bias&, std::string_view);
  static const auto plain = find_operator<Plain>("mkldnn::_linear_pointwise");
  static const auto binary = find_operator<Binary>("mkldnn::_linear_pointwise", "binary");
  if (residual.defined()) return binary.call(x, residual, packed, bias_of(bias), "add");
  return plain.call(x, packed, bias_of(bias), "none", Scalars(), "");
}

bool is_own(const Tensor& packed) { return !packed.is_mkldnn() && has_panels(packed); }

}  // namespace

Tensor linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual) {
  if (packed.is_mkldnn()) return onednn_linear(x, packed, bias, residual);
  if (is_own(packed)) return panel_linear(x, packed, bias, residual);
  Tensor y = at::linear(x, packed, bias_of(bias));
  return residual.defined() ? y.add_(residual) : y;
}

bool can_join(const Tensor& packed) { return is_own(packed) && packed.size(0) % kPanelColumns == 0; }

bool can_linear_geglu(const Tensor& packed) { return is_own(packed) && can_panel_geglu(packed); }

Tensor linear_geglu(const Tensor& x, const Tensor& packed, const Tensor& bias) { return panel_geglu(x, packed, bias); }

Tensor convolution(const Tensor& x, const Tensor& packed, const Tensor& bias, const Patches& c,
                   const Tensor& residual) {
  if (is_own(packed)) return panel_convolution(x, packed, bias, c, residual);
  using Sizes = at::IntArrayRef;
  using Plain =
      Tensor(const Tensor&, const Tensor&, const Bias&, Sizes, Sizes, Sizes, int64_t, std::string_view, Scalars, Word);
  using Binary = Tensor(const Tensor&, const Tensor&, const Tensor&, const Bias&, Sizes, Sizes, Sizes, int64_t,
                        std::string_view, std::optional<at::Scalar>, Word, Scalars, Word);
  static const auto plain = find_operator<Plain>("mkldnn::_convolution_pointwise");
  static const auto binary = find_operator<Binary>("mkldnn::_convolution_pointwise", "binary");
  const std::array<int64_t, 2> paddings = {c.padding, c.padding}, strides = {c.stride, c.stride}, ones = {1, 1};
  if (residual.defined())
    return binary.call(x, residual, packed, bias_of(bias), paddings, strides, ones, 1, "add", std::nullopt,
                       std::nullopt, Scalars(), std::nullopt);
  return plain.call(x, packed, bias_of(bias), paddings, strides, ones, 1, "none", Scalars(), "");
}

}  // namespace easel::cpu
