// Linears in eight bits by matrix tiles (int8.h).
#pragma once

#include "nn/cpu/int8.h"

namespace easel::cpu::amx {

// Whether they are multiplied by tiles, and the sizes fit.
bool can_int8(int64_t in, int64_t out);

// values: int8 [out, in] → [out / 32, in / 64, 2, 16, 16, 4], flat.
Tensor pack_int8(const Tensor& values);

// y [rows, out] = x · values, x [rows, in] of bytes whose zero is 128, each row with its scale; bias float32; residual
// of y's dtype or undefined.
void int8_linear(const Tensor& x, const Tensor& row_scales, const Int8Weight& weight, const Tensor& bias,
                 const Tensor& residual, Tensor& y);

}  // namespace easel::cpu::amx
