// Linears of bfloat16 by matrix tiles.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu::amx {

// x [..., in] bfloat16, packed [out, in] by pack_weight() (amx_weight.h) → [..., out]; bias [out] of any float and
// residual [..., out] may be undefined. Sums and what is added are float32, rounded once.
//
// Why not oneDNN's: it takes x as it lies, row beside row, at 22 to 45 % of what the tiles can do; from rows brought
// together for them, a few hundred at a time, they reach twice that.
Tensor linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual);

// geglu(x·weight + bias) in one pass: [..., in] → [..., out / 2], which is a multiple of 32.
Tensor geglu(const Tensor& x, const Tensor& packed, const Tensor& bias);

}  // namespace easel::cpu::amx
