#include "nn/cpu/half_rows.h"

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

#if defined(__x86_64__)
constexpr int64_t kLanes = 16;
constexpr __mmask16 kAll = 0xFFFF;  // without a mask GCC 12 warns of values that are never read (GCC bug 105593)

// A pair in each 32 bits.
struct Halves {
  EASEL_AVX512 EASEL_INLINE static __m512 low(__m512i pairs) {
    return _mm512_maskz_cvtph_ps(kAll, _mm512_maskz_cvtepi32_epi16(kAll, pairs));
  }
  EASEL_AVX512 EASEL_INLINE static __m512 high(__m512i pairs) { return low(_mm512_maskz_srli_epi32(kAll, pairs, 16)); }
};
struct BFloats {
  EASEL_AVX512 EASEL_INLINE static __m512 low(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, pairs, 16));
  }
  EASEL_AVX512 EASEL_INLINE static __m512 high(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_maskz_and_epi32(kAll, pairs, _mm512_set1_epi32(static_cast<int>(0xFFFF0000))));
  }
};
template <class Kind>
EASEL_AVX512 void widen_pair_lanes(const void* pairs, int64_t count, float* first, float* second) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t left = count - i;
    const auto mask = static_cast<__mmask16>(left >= kLanes ? kAll : (1 << left) - 1);
    const __m512i both = _mm512_maskz_loadu_epi32(mask, static_cast<const uint32_t*>(pairs) + i);
    _mm512_mask_storeu_ps(first + i, mask, Kind::low(both));
    _mm512_mask_storeu_ps(second + i, mask, Kind::high(both));
  }
}

constexpr int64_t kFew = 8;  // lanes of AVX2

// As many pairs of halves as there are whole vectors of.
EASEL_AVX2 int64_t widen_few_pairs(const at::Half* pairs, int64_t count, float* first, float* second) {
  // In each half of a register the first of each pair, then the second.
  const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,  //
                                         0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  constexpr int kFirstQuarters = 0b11'01'10'00;  // 0, 2, 1, 3
  int64_t i = 0;
  for (; i + kFew <= count; i += kFew) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pairs + 2 * i));
    const __m256i sorted = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(both, order), kFirstQuarters);
    _mm256_storeu_ps(first + i, _mm256_cvtph_ps(_mm256_castsi256_si128(sorted)));
    _mm256_storeu_ps(second + i, _mm256_cvtph_ps(_mm256_extracti128_si256(sorted, 1)));
  }
  return i;
}
#endif

#define EASEL_WIDEN_PAIRS(T)                                                                \
  EASEL_CLONES void widen_any(const T* pairs, int64_t count, float* first, float* second) { \
    for (int64_t i = 0; i < count; ++i) {                                                   \
      first[i] = widen(pairs[2 * i]);                                                       \
      second[i] = widen(pairs[2 * i + 1]);                                                  \
    }                                                                                       \
  }
EASEL_WIDEN_PAIRS(at::Half)
EASEL_WIDEN_PAIRS(at::BFloat16)
EASEL_WIDEN_PAIRS(float)
#undef EASEL_WIDEN_PAIRS

}  // namespace

void widen_pairs(const at::Half* pairs, int64_t count, float* first, float* second) {
#if defined(__x86_64__)
  if (has_avx512()) return widen_pair_lanes<Halves>(pairs, count, first, second);
  const int64_t done = has_avx2() ? widen_few_pairs(pairs, count, first, second) : 0;
  return widen_any(pairs + 2 * done, count - done, first + done, second + done);
#else
  widen_any(pairs, count, first, second);
#endif
}
void widen_pairs(const at::BFloat16* pairs, int64_t count, float* first, float* second) {
#if defined(__x86_64__)
  if (has_avx512()) return widen_pair_lanes<BFloats>(pairs, count, first, second);
#endif
  widen_any(pairs, count, first, second);
}

void widen_pairs(const float* pairs, int64_t count, float* first, float* second) {
  widen_any(pairs, count, first, second);
}

EASEL_CLONES void widen_row(const at::BFloat16* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

// An exponent of ones carries into the sign when its lowest bit is added.
EASEL_CLONES bool are_finite(const uint16_t* values, int64_t count, uint16_t exponent) {
  const auto lowest = static_cast<uint16_t>(0x8000 - exponent);
  uint16_t carried = 0;
  for (int64_t i = 0; i < count; ++i) carried |= static_cast<uint16_t>((values[i] & exponent) + lowest);
  return (carried & 0x8000u) == 0;
}

namespace {

EASEL_CLONES void narrow_any(const uint16_t* halves, int64_t count, uint16_t* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = narrow<at::BFloat16>(widen(at::Half(halves[i], at::Half::from_bits()))).x;
}

#if defined(__x86_64__)
EASEL_AVX512_BF16 bool narrow_lanes(const uint16_t* halves, int64_t count, uint16_t* to) {
  const __m256i exponent = _mm256_set1_epi16(kHalfExponent);
  uint32_t is_bad = 0;
  for (int64_t i = 0; i < count; i += kLanes) {
    const auto mask = static_cast<__mmask16>(count - i >= kLanes ? 0xFFFF : (1 << (count - i)) - 1);
    const __m256i values = _mm256_maskz_loadu_epi16(mask, halves + i);
    is_bad |= _mm256_cmpeq_epi16_mask(_mm256_and_si256(values, exponent), exponent);
    const __m512 wide = _mm512_maskz_cvtph_ps(kAll, values);
    _mm256_mask_storeu_epi16(to + i, mask, (__m256i)_mm512_cvtneps_pbh(wide));
  }
  return is_bad == 0;
}
#endif

}  // namespace

bool narrow_values(const uint16_t* halves, int64_t count, uint16_t* to) {
#if defined(__x86_64__)
  if (has_avx512_bf16()) return narrow_lanes(halves, count, to);
#endif
  narrow_any(halves, count, to);
  return are_finite(halves, count, kHalfExponent);
}

}  // namespace easel::cpu
