// LayerNorm over the last dimension on the CPU, in one pass over memory.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// x: [..., W] contiguous, float32 or bfloat16; weight and bias: [W] of the same dtype → as x (Ba, Kiros & Hinton 2016).
// Mean, then variance about it, in float32 whatever x is.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps);

// Whether layer_norm() takes x.
bool can_layer_norm(const Tensor& x);

}  // namespace easel::cpu
