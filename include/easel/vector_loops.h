// What the CPU kernels' inner loops are made of: values that the compiler can vectorise.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>

// Each loop is compiled for three instruction sets and chosen when the program starts; its helpers must be inlined into
// it. Not under the address sanitizer: the choosing runs before the sanitizer is there.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define EASEL_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EASEL_CLONES
#endif
#define EASEL_INLINE inline __attribute__((always_inline))

namespace easel::cpu {

EASEL_INLINE float widen(float x) { return x; }
EASEL_INLINE float widen(at::BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.x) << 16); }
// The exponent's 5 bits become float32's 8. Never by a product with a subnormal number, which an Intel processor does a
// hundred times as slowly: a weight in four hundred is subnormal in float16.
EASEL_INLINE float widen(at::Half x) {
  constexpr uint32_t kOnes = 0x7C00u << 13, kShift = 112u << 23;
  const uint32_t size = (x.x & 0x7FFFu) << 13, sign = (x.x & 0x8000u) << 16, exponent = size & kOnes;
  const uint32_t moved = size + kShift + (exponent == kOnes ? kShift : 0);  // infinity and NaN stay so
  const float subnormal = std::bit_cast<float>(moved + (1u << 23)) - 0x1p-14f;
  return std::bit_cast<float>((exponent == 0 ? std::bit_cast<uint32_t>(subnormal) : moved) | sign);
}

template <class T>
EASEL_INLINE T narrow(float x);
template <>
EASEL_INLINE float narrow<float>(float x) {
  return x;
}
template <>  // to nearest, ties to even; NaN stays NaN because its payload's top bit is kept
EASEL_INLINE at::BFloat16 narrow<at::BFloat16>(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = x != x ? bits | 0x400000u : bits + 0x7FFFu + ((bits >> 16) & 1u);
  return at::BFloat16(static_cast<unsigned short>(rounded >> 16), at::BFloat16::from_bits());
}

// 2^x for x ≤ 0 to 2e-7 relative: 2^n·p(f) with n + f = x, p the polynomial of Cephes' exp2f; written without branches
// so that the compiler vectorises the loop around it.
EASEL_INLINE float exp2_of_negative(float x) {
  const float scaled = std::max(x, -126.0f);
  const float shifted = scaled + 12582912.0f;  // 1.5·2^23: the sum's low bits are the nearest integer
  const float f = scaled - (shifted - 12582912.0f);
  float p = 1.535336188e-4f;  // no loop over coefficients: the compiler would not vectorise the one around it
  p = p * f + 1.339887440e-3f;
  p = p * f + 9.618437357e-3f;
  p = p * f + 5.550332471e-2f;
  p = p * f + 2.402264791e-1f;
  p = p * f + 6.931472029e-1f;
  p = p * f + 1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - 0x4B400000;
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + (exponent << 23));
}

EASEL_INLINE float exp_of_negative(float x) { return exp2_of_negative(x * 1.44269504f); }

EASEL_INLINE float silu(float x) {
  const float e = exp_of_negative(-std::abs(x));
  return x * (x < 0 ? e : 1.0f) / (1.0f + e);
}

// erf(x) to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26).
EASEL_INLINE float erf(float x) {
  const float size = std::abs(x), t = 1.0f / (1.0f + 0.3275911f * size);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  return std::copysign(1.0f - p * t * exp_of_negative(-size * size), x);
}

EASEL_INLINE float gelu(float x) { return 0.5f * x * (1.0f + erf(x * 0.70710678f)); }

}  // namespace easel::cpu
