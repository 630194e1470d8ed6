// The gate of a GEGLU feed-forward on the CPU, in one pass over memory.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// x: [..., 2·W] contiguous, float32 or bfloat16: value and gate → [..., W], value·GELU(gate) (Shazeer 2020; the GELU
// with erf), computed in float32.
//
// Why not at::gelu and a product: in bfloat16 that took 6 to 9 times as long, for its gate is not contiguous.
Tensor geglu(const Tensor& x);

// Whether geglu() takes x.
bool can_geglu(const Tensor& x);

}  // namespace easel::cpu
