// The kernels of the CUDA part (src/nn/cuda), for tensors on a CUDA device.
#pragma once

#include "easel/tensor.h"
#include "nn/activation.h"

namespace easel::cuda {

// x: [B, C, H, W] channels-last, float32, float16 or bfloat16; weight and bias: [C] of the same dtype. Statistics are
// float32. ATen's takes the contiguous layout alone, so that every norm is two copies more, and SiLU another pass.
Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps,
                  Activation activation);

// As nn.h's geglu(), of a contiguous x.
Tensor geglu(const Tensor& x);

// x + residual in x's memory, and LayerNorm of that sum, which is returned. x and residual: [..., W] of one shape,
// contiguous; weight and bias: [W]; all of one dtype, float32, float16 or bfloat16. Statistics are float32.
Tensor add_and_layer_norm(Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias, double eps);

// Whether they take x, which is on a CUDA device.
bool can_group_norm(const Tensor& x);
bool can_geglu(const Tensor& x);
bool can_add_and_layer_norm(const Tensor& x, const Tensor& residual);

}  // namespace easel::cuda
