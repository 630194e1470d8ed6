#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "nn/cuda/interface.h"
#include "nn/cuda/kernels.cuh"

namespace {

using namespace easel::cuda;

constexpr int kThreads = 256;

unsigned blocks_of(int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

template <typename T, int N>
void group_norm(const EaselGroupNorm& sizes, const void* x, const void* weight, const void* bias, float* workspace,
                void* y, cudaStream_t stream) {
  const NormSizes s{sizes.batch, sizes.pixels, sizes.channels, sizes.groups};
  auto* moments = reinterpret_cast<Moments*>(workspace);
  float* norms = workspace + 3 * s.batch * s.channels * s.chunks();
  const auto typed = [](const void* p) { return static_cast<const T*>(p); };
  channel_moments<T, N>
      <<<blocks_of(s.batch * s.chunks() * s.channels / N), kThreads, 0, stream>>>(s, typed(x), moments);
  merge_moments<<<static_cast<unsigned>(s.batch * s.groups), kMergeThreads, 0, stream>>>(
      s, static_cast<float>(sizes.eps), moments, norms);
  normalize<T, N><<<blocks_of(s.batch * s.pixels * s.channels / N), kThreads, 0, stream>>>(
      s, sizes.silu != 0, typed(x), typed(weight), typed(bias), norms, static_cast<T*>(y));
}

template <typename T, int N>
void gated(int64_t rows, int64_t width, const void* x, void* y, cudaStream_t stream) {
  geglu<T, N>
      <<<blocks_of(rows * width / N), kThreads, 0, stream>>>(rows, width, static_cast<const T*>(x), static_cast<T*>(y));
}

// call.template operator()<T>() of the type.
template <typename Call>
void with_type(EaselCudaType type, const Call& call) {
  if (type == kEaselFloat) call(float{});
  if (type == kEaselHalf) call(c10::Half{});
  if (type == kEaselBFloat16) call(c10::BFloat16{});
}

const char* fault_of_launch() {
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace

extern "C" int64_t easel_cuda_group_norm_workspace(const EaselGroupNorm* s) {
  const NormSizes sizes{s->batch, s->pixels, s->channels, s->groups};
  return 3 * s->batch * s->channels * sizes.chunks() + 2 * s->batch * s->groups;
}

extern "C" const char* easel_cuda_group_norm(const EaselGroupNorm* sizes, EaselCudaType type, int32_t device,
                                             const void* x, const void* weight, const void* bias, float* workspace,
                                             void* y) {
  const auto index = static_cast<c10::DeviceIndex>(device);
  const c10::cuda::CUDAGuard guard(index);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(index);
  const bool pairs = sizes->channels / sizes->groups % 2 == 0;
  with_type(type, [&](auto of_type) {
    using T = decltype(of_type);
    if (pairs)
      group_norm<T, 2>(*sizes, x, weight, bias, workspace, y, stream);
    else
      group_norm<T, 1>(*sizes, x, weight, bias, workspace, y, stream);
  });
  return fault_of_launch();
}

extern "C" const char* easel_cuda_geglu(int64_t rows, int64_t width, EaselCudaType type, int32_t device, const void* x,
                                        void* y) {
  const auto index = static_cast<c10::DeviceIndex>(device);
  const c10::cuda::CUDAGuard guard(index);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(index);
  with_type(type, [&](auto of_type) {
    using T = decltype(of_type);
    if (width % 2 == 0)
      gated<T, 2>(rows, width, x, y, stream);
    else
      gated<T, 1>(rows, width, x, y, stream);
  });
  return fault_of_launch();
}
