// Weights that are kept in sixteen bits and multiplied in float32.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// count: a multiple of 16.
void widen_row(const at::Half* from, int64_t count, float* to);

// Of any count; float32 as it is.
void widen_row(const at::BFloat16* from, int64_t count, float* to);
inline void widen_row(const float* from, int64_t count, float* to) { std::copy_n(from, count, to); }

// [count, 2] → the first of each pair and the second.
void widen_pairs(const at::Half* pairs, int64_t count, float* first, float* second);
void widen_pairs(const at::BFloat16* pairs, int64_t count, float* first, float* second);
void widen_pairs(const float* pairs, int64_t count, float* first, float* second);

// Whether all values of sixteen bits are finite, exponent being that of infinity.
bool are_finite(const uint16_t* values, int64_t count, uint16_t exponent);
constexpr uint16_t kHalfExponent = 0x7C00, kBFloat16Exponent = 0x7F80;

// float16 → bfloat16. Whether all of them are finite.
bool narrow_values(const uint16_t* halves, int64_t count, uint16_t* to);

}  // namespace easel::cpu
