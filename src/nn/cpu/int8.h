// Linears in eight bits: weights with a scale for each output, inputs with one for each token, found when they come
// (W8A8 with dynamic scales).
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

struct Int8Weight {
  Tensor values;  // int8 [out / 64 blocks, in / 4, 64, 4], the last block as wide as it is; or as amx_int8.h has it
  Tensor scales;  // float32 [out]
  Tensor sums;    // float32 [out]: of a row's values, times 128, because inputs are stored from 0 to 255
};

// Whether the processor has the products and the sizes fit.
bool can_int8(int64_t in, int64_t out);

// weight [out, in], float32 or bfloat16.
Int8Weight pack_int8(const Tensor& weight);

// x: [..., in] → [..., out], of x's dtype (float32 or bfloat16); bias [out] and residual [..., out] may be undefined.
Tensor int8_linear(const Tensor& x, const Int8Weight& weight, const Tensor& bias, const Tensor& residual);

}  // namespace easel::cpu
