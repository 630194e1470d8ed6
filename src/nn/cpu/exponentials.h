// The exponentials of a softmax, a row of scores at a time (softmax_columns.h: in columns, in float32).
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// out = 2^(score·scale − shift), where that is at most 1, and their sum: to 7.5e-5 before it is rounded to nearest, of
// which rounding takes fifty times as much. Far below 1 they are as good as 0; NaN stays NaN.
float exponentials(const float* scores, at::BFloat16* out, int64_t count, float scale, float shift);

// The largest of one value and more; of NaN among them nothing is said.
float largest_of(const float* values, int64_t count);

}  // namespace easel::cpu
