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

EASEL_AVX512 void widen_lanes(const at::Half* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    _mm512_storeu_ps(to + i, _mm512_maskz_cvtph_ps(kAll, half));
  }
}

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

EASEL_AVX512 void stream_lanes(const float* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes) _mm512_stream_ps(to + i, _mm512_loadu_ps(from + i));
}
EASEL_AVX512 void stream_lanes(const float* from, int64_t count, float scale, at::Half* to) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(from + i), factor);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm512_maskz_cvtps_ph(kAll, scaled, _MM_FROUND_TO_NEAREST_INT));
  }
}
#else
void widen_lanes(const at::Half*, int64_t, float*) {}
void stream_lanes(const float*, int64_t, float*) {}
void stream_lanes(const float*, int64_t, float, at::Half*) {}
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
#undef EASEL_WIDEN_PAIRS

}  // namespace

void widen_pairs(const at::Half* pairs, int64_t count, float* first, float* second) {
#if defined(__x86_64__)
  if (has_avx512()) return widen_pair_lanes<Halves>(pairs, count, first, second);
#endif
  widen_any(pairs, count, first, second);
}
void widen_pairs(const at::BFloat16* pairs, int64_t count, float* first, float* second) {
#if defined(__x86_64__)
  if (has_avx512()) return widen_pair_lanes<BFloats>(pairs, count, first, second);
#endif
  widen_any(pairs, count, first, second);
}

EASEL_CLONES void widen_row(const at::BFloat16* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

// Without AVX512 the tests alone come here.
void widen_row(const at::Half* from, int64_t count, float* to) {
  if (has_avx512())
    widen_lanes(from, count, to);
  else
    std::copy_n(from, count, to);
}
void stream_row(const float* from, int64_t count, float* to) {
  if (has_avx512())
    stream_lanes(from, count, to);
  else
    std::copy_n(from, count, to);
}
void stream_row(const float* from, int64_t count, float scale, at::Half* to) {
  if (has_avx512()) return stream_lanes(from, count, scale, to);
  for (int64_t i = 0; i < count; ++i) to[i] = from[i] * scale;
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
