// The kernels of libeasel_cuda.so: a C interface, as src/runtime/cuda/plugin.h. They run on ATen's current stream of
// the device and return null, or a sentence on what failed. Pointers are the device's.
#pragma once

#include <stdint.h>

extern "C" {

enum EaselCudaType { kEaselFloat, kEaselHalf, kEaselBFloat16 };

struct EaselGroupNorm {
  int64_t batch, pixels, channels, groups;  // channels-last: x and y are [batch, pixels, channels]
  double eps;
  int32_t silu;  // 0: the norm alone
};

// Floats of `workspace`.
int64_t easel_cuda_group_norm_workspace(const EaselGroupNorm* sizes);

const char* easel_cuda_group_norm(const EaselGroupNorm* sizes, EaselCudaType type, int32_t device, const void* x,
                                  const void* weight, const void* bias, float* workspace, void* y);

// [rows, 2·width], value and gate → [rows, width]: value·GELU(gate), with erf.
const char* easel_cuda_geglu(int64_t rows, int64_t width, EaselCudaType type, int32_t device, const void* x, void* y);

struct EaselLayerNorm {
  int64_t rows, width;
  double eps;
};

// x, residual, sum and y: [rows, width]; weight and bias: [width]. sum = x + residual, and may be x; y =
// LayerNorm(sum).
const char* easel_cuda_residual_layer_norm(const EaselLayerNorm* sizes, EaselCudaType type, int32_t device,
                                           const void* x, const void* residual, const void* weight, const void* bias,
                                           void* sum, void* y);
}
