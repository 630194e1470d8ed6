#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <type_traits>

#include "nn/cuda/interface.h"
#include "nn/cuda/kernels.cuh"

namespace {

using namespace easel::cuda;

// call(launch, T{}, integral_constant<int, N>) on ATen's stream of the device: N is 2 for pairs, else 1.
template <typename Call>
const char* on_device(int32_t device, EaselCudaType type, bool pairs, const Call& call) {
  const auto index = static_cast<c10::DeviceIndex>(device);
  const c10::cuda::CUDAGuard guard(index);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(index);
  const auto launch = [stream](auto kernel, int64_t blocks, int threads, auto... arguments) {
    kernel<<<static_cast<unsigned>(blocks), threads, 0, stream>>>(arguments...);
  };
  const auto of_width = [&](auto of_type) {
    if (pairs)
      call(launch, of_type, std::integral_constant<int, 2>());
    else
      call(launch, of_type, std::integral_constant<int, 1>());
  };
  if (type == kEaselFloat) of_width(float{});
  if (type == kEaselHalf) of_width(c10::Half{});
  if (type == kEaselBFloat16) of_width(c10::BFloat16{});
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

NormSizes sizes_of(const EaselGroupNorm& s) { return {s.batch, s.pixels, s.channels, s.groups}; }

}  // namespace

extern "C" int64_t easel_cuda_group_norm_workspace(const EaselGroupNorm* s) { return workspace_of(sizes_of(*s)); }

extern "C" const char* easel_cuda_group_norm(const EaselGroupNorm* s, EaselCudaType type, int32_t device, const void* x,
                                             const void* weight, const void* bias, float* workspace, void* y) {
  const bool pairs = s->channels / s->groups % 2 == 0;
  return on_device(device, type, pairs, [&](const auto& launch, auto of_type, auto lanes) {
    using T = decltype(of_type);
    group_norm<T, lanes()>(launch, sizes_of(*s), static_cast<float>(s->eps), s->silu != 0, static_cast<const T*>(x),
                           static_cast<const T*>(weight), static_cast<const T*>(bias), workspace, static_cast<T*>(y));
  });
}

extern "C" const char* easel_cuda_geglu(int64_t rows, int64_t width, EaselCudaType type, int32_t device, const void* x,
                                        void* y) {
  return on_device(device, type, width % 2 == 0, [&](const auto& launch, auto of_type, auto lanes) {
    using T = decltype(of_type);
    geglu<T, lanes()>(launch, rows, width, static_cast<const T*>(x), static_cast<T*>(y));
  });
}

extern "C" const char* easel_cuda_residual_layer_norm(const EaselLayerNorm* s, EaselCudaType type, int32_t device,
                                                      const void* x, const void* residual, const void* weight,
                                                      const void* bias, void* sum, void* y) {
  return on_device(device, type, s->width % 2 == 0, [&](const auto& launch, auto of_type, auto lanes) {
    using T = decltype(of_type);
    residual_layer_norm<T, lanes()>(launch, {s->rows, s->width, static_cast<float>(s->eps)}, static_cast<const T*>(x),
                                    static_cast<const T*>(residual), static_cast<const T*>(weight),
                                    static_cast<const T*>(bias), static_cast<T*>(sum), static_cast<T*>(y));
  });
}
