// Weights that are kept in sixteen bits and multiplied in float32.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// Of any count; float32 as it is.
void widen_row(const at::BFloat16* from, int64_t count, float* to);
inline void widen_row(const float* from, int64_t count, float* to) { std::copy_n(from, count, to); }

// [count, 2] → the first of each pair and the second.
void widen_pairs(const at::Half* pairs, int64_t count, float* first, float* second);
void widen_pairs(const at::BFloat16* pairs, int64_t count, float* first, float* second);
void widen_pairs(const float* pairs, int64_t count, float* first, float* second);

// f(W()), with W the C++ type that a weight is kept in.
template <class F>
void with_kept_type(at::ScalarType kept, const F& f) {
  if (kept == at::kHalf) return f(at::Half());
  if (kept == at::kBFloat16) return f(at::BFloat16());
  TORCH_CHECK(kept == at::kFloat, "weights kept in ", kept);
  f(float());
}

// Whether all values of sixteen bits are finite, exponent being that of infinity.
bool are_finite(const uint16_t* values, int64_t count, uint16_t exponent);
constexpr uint16_t kHalfExponent = 0x7C00, kBFloat16Exponent = 0x7F80;

// float16 → bfloat16. Whether all of them are finite.
bool narrow_values(const uint16_t* halves, int64_t count, uint16_t* to);

}  // namespace easel::cpu
