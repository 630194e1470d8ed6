#include "nn/cpu/softmax_columns.h"

#include "easel/vector_loops.h"
#include "nn/cpu/avx2_products.h"
#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

#if defined(__x86_64__)
// Of 2^x over [0, 1), because the instruction that scales takes the exponent's floor: 7.5e-8 relative.
constexpr float kQuintic[] = {0.999999925f, 0.693153073f, 0.240153617f, 0.0558263178f, 0.00898934038f, 0.00187757656f};

// ---- AVX512 -------------------------------------------------------------------------------------------------------

namespace by_avx512 {

constexpr int64_t kStrip = kMostRunColumns, kLanes = 16;
constexpr int kVectors = kStrip / kLanes;  // whose shifts and totals stay in registers
constexpr __mmask16 kAll = 0xFFFF;         // without a mask GCC 12 warns of values that are never read (GCC bug 105593)

EASEL_AVX512 EASEL_INLINE __m512 exp2_of(__m512 x) {
  x = _mm512_maskz_max_ps(kAll, _mm512_set1_ps(-100), x);  // in this order NaN stays
  const __m512 f = _mm512_maskz_reduce_ps(kAll, x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(kQuintic[5]), f, _mm512_set1_ps(kQuintic[4]));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kQuintic[3]));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kQuintic[2]));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kQuintic[1]));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kQuintic[0]));
  return _mm512_maskz_scalef_ps(kAll, p, x);
}

// The columns that there are.
struct Masks {
  __mmask16 of[kVectors];
  explicit Masks(int64_t columns) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t left = columns - v * kLanes;
      of[v] = static_cast<__mmask16>(left >= kLanes ? 0xFFFF : left <= 0 ? 0 : (1 << left) - 1);
    }
  }
};

EASEL_AVX512 bool raise(const ScoreStrip& s, float scale, float* shift, float* factor) {
  const Masks masks(s.columns);
  __m512 largest[kVectors];
  for (int v = 0; v < kVectors; ++v) largest[v] = _mm512_loadu_ps(s.scores + v * kLanes);
  for (int64_t r = 1; r < s.rows; ++r) {
    for (int v = 0; v < kVectors; ++v)
      largest[v] = _mm512_maskz_max_ps(kAll, largest[v], _mm512_loadu_ps(s.scores + r * kStrip + v * kLanes));
  }
  __mmask16 rose = 0;
  for (int v = 0; v < kVectors; ++v) {
    const __m512 before = _mm512_maskz_loadu_ps(masks.of[v], shift + v * kLanes);
    const __m512 now = _mm512_maskz_max_ps(kAll, before, _mm512_mul_ps(largest[v], _mm512_set1_ps(scale)));
    rose |= _mm512_mask_cmp_ps_mask(masks.of[v], now, before, _CMP_GT_OQ);
    _mm512_mask_storeu_ps(shift + v * kLanes, masks.of[v], now);
    _mm512_mask_storeu_ps(factor + v * kLanes, masks.of[v], exp2_of(_mm512_sub_ps(before, now)));
  }
  return rose != 0;
}

EASEL_AVX512 void exponentials(const ScoreStrip& s, float scale, const float* shift, float* total) {
  const Masks masks(s.columns);
  const __m512 factor = _mm512_set1_ps(scale);
  __m512 minus[kVectors], sums[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    minus[v] = _mm512_maskz_loadu_ps(masks.of[v], shift + v * kLanes);
    sums[v] = _mm512_setzero_ps();
  }
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      float* const at = s.scores + r * kStrip + v * kLanes;
      const __m512 e = exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(at), factor, minus[v]));
      sums[v] = _mm512_add_ps(sums[v], e);
      _mm512_storeu_ps(at, e);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const __m512 before = _mm512_maskz_loadu_ps(masks.of[v], total + v * kLanes);
    _mm512_mask_storeu_ps(total + v * kLanes, masks.of[v], _mm512_add_ps(before, sums[v]));
  }
}
}  // namespace by_avx512

// ---- AVX2 ---------------------------------------------------------------------------------------------------------

namespace by_avx2 {

constexpr int64_t kStrip = avx2::kColumns, kLanes = 8;
constexpr int kVectors = kStrip / kLanes;  // whose shifts and totals stay in registers

EASEL_AVX2 EASEL_INLINE __m256 exp2_of(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-100), x);  // in this order NaN stays
  const __m256 whole = _mm256_floor_ps(x), f = _mm256_sub_ps(x, whole);
  __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(kQuintic[5]), f, _mm256_set1_ps(kQuintic[4]));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kQuintic[3]));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kQuintic[2]));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kQuintic[1]));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(kQuintic[0]));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}

// The columns that there are.
struct Masks {
  __m256i of[kVectors];
  EASEL_AVX2 explicit Masks(int64_t columns) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (int v = 0; v < kVectors; ++v)
      of[v] = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(columns - v * kLanes)), lanes);
  }
};

EASEL_AVX2 bool raise(const ScoreStrip& s, float scale, float* shift, float* factor) {
  const Masks masks(s.columns);
  int rose = 0;
  for (int v = 0; v < kVectors; ++v) {
    const float* const scores = s.scores + v * kLanes;
    __m256 largest = _mm256_loadu_ps(scores);
    for (int64_t r = 1; r < s.rows; ++r) largest = _mm256_max_ps(largest, _mm256_loadu_ps(scores + r * kStrip));
    const __m256 before = _mm256_maskload_ps(shift + v * kLanes, masks.of[v]);
    const __m256 now = _mm256_max_ps(before, _mm256_mul_ps(largest, _mm256_set1_ps(scale)));
    const __m256 is_more = _mm256_and_ps(_mm256_cmp_ps(now, before, _CMP_GT_OQ), _mm256_castsi256_ps(masks.of[v]));
    rose |= _mm256_movemask_ps(is_more);
    _mm256_maskstore_ps(shift + v * kLanes, masks.of[v], now);
    _mm256_maskstore_ps(factor + v * kLanes, masks.of[v], exp2_of(_mm256_sub_ps(before, now)));
  }
  return rose != 0;
}

EASEL_AVX2 void exponentials(const ScoreStrip& s, float scale, const float* shift, float* total) {
  const Masks masks(s.columns);
  const __m256 factor = _mm256_set1_ps(scale);
  __m256 minus[kVectors], sums[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    minus[v] = _mm256_maskload_ps(shift + v * kLanes, masks.of[v]);
    sums[v] = _mm256_setzero_ps();
  }
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      float* const at = s.scores + r * kStrip + v * kLanes;
      const __m256 e = exp2_of(_mm256_fmsub_ps(_mm256_loadu_ps(at), factor, minus[v]));
      sums[v] = _mm256_add_ps(sums[v], e);
      _mm256_storeu_ps(at, e);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const __m256 before = _mm256_maskload_ps(total + v * kLanes, masks.of[v]);
    _mm256_maskstore_ps(total + v * kLanes, masks.of[v], _mm256_add_ps(before, sums[v]));
  }
}

}  // namespace by_avx2
#endif

}  // namespace

bool raise_shifts([[maybe_unused]] const ScoreStrip& s, [[maybe_unused]] float scale, [[maybe_unused]] float* shift,
                  [[maybe_unused]] float* factor) {
#if defined(__x86_64__)
  return has_avx512() ? by_avx512::raise(s, scale, shift, factor) : by_avx2::raise(s, scale, shift, factor);
#else
  return false;
#endif
}

void exponentials_in_place([[maybe_unused]] const ScoreStrip& s, [[maybe_unused]] float scale,
                           [[maybe_unused]] const float* shift, [[maybe_unused]] float* total) {
#if defined(__x86_64__)
  if (has_avx512())
    by_avx512::exponentials(s, scale, shift, total);
  else
    by_avx2::exponentials(s, scale, shift, total);
#endif
}

}  // namespace easel::cpu
