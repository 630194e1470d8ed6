// Weights that are kept in float16 and multiplied in float32.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// count: a multiple of 16.
void widen_row(const at::Half* from, int64_t count, float* to);
void narrow_row(const float* from, int64_t count, float scale, at::Half* to);  // of the values times scale

}  // namespace easel::cpu
