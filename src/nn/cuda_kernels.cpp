#include "nn/cuda_kernels.h"

#include "easel/runtime.h"
#include "nn/cuda/interface.h"

namespace easel::cuda {

namespace {

std::optional<EaselCudaType> type_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return kEaselFloat;
    case at::kHalf:
      return kEaselHalf;
    case at::kBFloat16:
      return kEaselBFloat16;
    default:
      return std::nullopt;
  }
}

// The kernels read two values at a time.
bool begins_on_a_pair(const Tensor& x) {
  return reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % (2 * x.element_size()) == 0;
}

void check(const char* fault, const char* what) { TORCH_CHECK(fault == nullptr, what, " on the CUDA device: ", fault); }

}  // namespace

bool can_group_norm(const Tensor& x) {
  return type_of(x) && x.dim() == 4 && x.numel() > 0 && x.is_contiguous(at::MemoryFormat::ChannelsLast) &&
         begins_on_a_pair(x);
}

bool can_geglu(const Tensor& x) {
  return type_of(x) && x.dim() > 0 && x.numel() > 0 && x.size(-1) % 2 == 0 && x.is_contiguous() && begins_on_a_pair(x);
}

bool can_add_and_layer_norm(const Tensor& x, const Tensor& residual) {
  return type_of(x) && x.scalar_type() == residual.scalar_type() && x.dim() > 0 && x.numel() > 0 &&
         x.sizes() == residual.sizes() && x.is_contiguous() && residual.is_contiguous() && begins_on_a_pair(x) &&
         begins_on_a_pair(residual);
}

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps,
                  Activation activation) {
  TORCH_CHECK(can_group_norm(x) && x.size(1) % groups == 0 && weight.scalar_type() == x.scalar_type() &&
                  bias.scalar_type() == x.scalar_type(),
              "group_norm of ", x.sizes(), " in ", groups, " groups");
  static const auto workspace_of =
      cuda_function<decltype(easel_cuda_group_norm_workspace)>("easel_cuda_group_norm_workspace");
  static const auto call = cuda_function<decltype(easel_cuda_group_norm)>("easel_cuda_group_norm");
  const EaselGroupNorm sizes{.batch = x.size(0),
                             .pixels = x.size(2) * x.size(3),
                             .channels = x.size(1),
                             .groups = groups,
                             .eps = eps,
                             .silu = activation == Activation::kSilu};
  Tensor y = at::empty_like(x, x.options(), at::MemoryFormat::ChannelsLast);
  Tensor workspace = at::empty({workspace_of(&sizes)}, x.options().dtype(at::kFloat));
  check(call(&sizes, *type_of(x), x.device().index(), x.const_data_ptr(), weight.contiguous().const_data_ptr(),
             bias.contiguous().const_data_ptr(), workspace.mutable_data_ptr<float>(), y.mutable_data_ptr()),
        "GroupNorm");
  return y;
}

Tensor geglu(const Tensor& x) {
  TORCH_CHECK(can_geglu(x), "geglu of ", x.sizes());
  static const auto call = cuda_function<decltype(easel_cuda_geglu)>("easel_cuda_geglu");
  const int64_t width = x.size(-1) / 2;
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = width;
  Tensor y = at::empty(shape, x.options());
  check(call(y.numel() / width, width, *type_of(x), x.device().index(), x.const_data_ptr(), y.mutable_data_ptr()),
        "GEGLU");
  return y;
}

Tensor add_and_layer_norm(Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias, double eps) {
  TORCH_CHECK(can_add_and_layer_norm(x, residual) && weight.numel() == x.size(-1) && bias.numel() == x.size(-1) &&
                  weight.scalar_type() == x.scalar_type() && bias.scalar_type() == x.scalar_type(),
              "LayerNorm of ", x.sizes(), " + ", residual.sizes(), " with weights ", weight.sizes());
  static const auto call = cuda_function<decltype(easel_cuda_residual_layer_norm)>("easel_cuda_residual_layer_norm");
  const EaselLayerNorm sizes{.rows = x.numel() / x.size(-1), .width = x.size(-1), .eps = eps};
  Tensor y = at::empty_like(x);
  check(call(&sizes, *type_of(x), x.device().index(), x.const_data_ptr(), residual.const_data_ptr(),
             weight.contiguous().const_data_ptr(), bias.contiguous().const_data_ptr(), x.mutable_data_ptr(),
             y.mutable_data_ptr()),
        "LayerNorm of a sum");
  return y;
}

}  // namespace easel::cuda
