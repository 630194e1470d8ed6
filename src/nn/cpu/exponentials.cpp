#include "nn/cpu/exponentials.h"

#include <array>
#include <numeric>

#include "easel/vector_loops.h"
#include "nn/cpu/exp2_lanes.h"

namespace easel::cpu {
namespace {

using BF16 = at::BFloat16;

// ---- any processor ------------------------------------------------------------------------------------------------

// 2^x by the best cubic. −126 and below give a number that is as good as 0.
EASEL_INLINE float plain_exp2_by_cubic(float x) {
  const float shifted = std::max(x, -126.0f) + 12582912.0f;  // 1.5·2^23: the sum's low bits are the nearest integer
  const float f = std::max(x, -126.0f) - (shifted - 12582912.0f);
  const float p = ((0.0551716703f * f + 0.242611125f) * f + 0.693260985f) * f + 0.999928073f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - 0x4B400000;
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + (exponent << 23));
}

EASEL_CLONES float plain(const float* scores, BF16* out, int64_t count, float scale, float shift) {
  auto* bits = reinterpret_cast<uint16_t*>(out);
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) {
    const float e = plain_exp2_by_cubic(scores[i] * scale - shift);
    sum += e;
    bits[i] = static_cast<uint16_t>((std::bit_cast<uint32_t>(e) + 0x8000u) >> 16);  // e is positive and finite
  }
  return sum;
}

EASEL_CLONES float largest_plain(const float* values, int64_t count) {
  constexpr int64_t kLanes = 64;
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, values[0]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] = lanes[j] < values[i + j] ? values[i + j] : lanes[j];
  }
  for (; i < count; ++i) lanes[0] = std::max(lanes[0], values[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

// ---- AVX512-BF16 --------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
constexpr __mmask16 kAll = 0xFFFF;  // without a mask GCC 12 warns of values that are never read (GCC bug 105593)

EASEL_AVX512_BF16 inline std::array<float, 16> lanes_of(__m512 x) {
  std::array<float, 16> lanes;
  _mm512_storeu_ps(lanes.data(), x);
  return lanes;
}

EASEL_AVX512_BF16 float wide(const float* scores, BF16* out, int64_t count, float scale, float shift) {
  const __m512 factor = _mm512_set1_ps(scale), minus = _mm512_set1_ps(shift);
  __m512 low_sum = _mm512_setzero_ps(), high_sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += 32) {
    const int64_t left = count - i;
    const auto mask = left >= 32 ? 0xFFFFFFFFu : (1u << left) - 1;
    const auto low_mask = static_cast<__mmask16>(mask), high_mask = static_cast<__mmask16>(mask >> 16);
    const __m512 low = exp2_by_cubic(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(low_mask, scores + i), factor, minus));
    const __m512 high =
        exp2_by_cubic(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(high_mask, scores + i + 16), factor, minus));
    low_sum = _mm512_mask_add_ps(low_sum, low_mask, low_sum, low);
    high_sum = _mm512_mask_add_ps(high_sum, high_mask, high_sum, high);
    _mm512_mask_storeu_epi16(out + i, mask, (__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
  const auto sums = lanes_of(_mm512_add_ps(low_sum, high_sum));
  return std::accumulate(sums.begin(), sums.end(), 0.0f);
}

EASEL_AVX512_BF16 float largest_wide(const float* values, int64_t count) {
  __m512 largest[4];
  for (__m512& one : largest) one = _mm512_set1_ps(values[0]);
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    for (int j = 0; j < 4; ++j)
      largest[j] = _mm512_maskz_max_ps(kAll, largest[j], _mm512_loadu_ps(values + i + 16 * j));
  }
  for (; i < count; i += 16) {
    const auto mask = static_cast<__mmask16>(count - i >= 16 ? 0xFFFF : (1 << (count - i)) - 1);
    largest[0] = _mm512_mask_max_ps(largest[0], mask, largest[0], _mm512_maskz_loadu_ps(mask, values + i));
  }
  const __m512 low = _mm512_maskz_max_ps(kAll, largest[0], largest[1]);
  const auto lanes = lanes_of(_mm512_maskz_max_ps(kAll, low, _mm512_maskz_max_ps(kAll, largest[2], largest[3])));
  return *std::max_element(lanes.begin(), lanes.end());
}
#else
float largest_wide(const float* values, int64_t count) { return largest_plain(values, count); }
float wide(const float* scores, BF16* out, int64_t count, float scale, float shift) {
  return plain(scores, out, count, scale, shift);
}
#endif

}  // namespace

float largest_of(const float* values, int64_t count) {
  static const bool is_wide = has_avx512_bf16();
  return is_wide ? largest_wide(values, count) : largest_plain(values, count);
}

float exponentials(const float* scores, BF16* out, int64_t count, float scale, float shift) {
  static const bool is_wide = has_avx512_bf16();
  return is_wide ? wide(scores, out, count, scale, shift) : plain(scores, out, count, scale, shift);
}

}  // namespace easel::cpu
