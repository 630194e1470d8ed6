#include "nn/cpu/softmax_columns.h"

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

#if defined(__x86_64__)
constexpr int64_t kLanes = 16;
constexpr int kVectors = kStrip / kLanes;  // whose shifts and totals stay in registers
constexpr __mmask16 kAll = 0xFFFF;         // without a mask GCC 12 warns of values that are never read (GCC bug 105593)

// Of 2^x over [0, 1), because the instruction that scales takes the exponent's floor: 7.5e-8 relative.
constexpr float kQuintic[] = {0.999999925f, 0.693153073f, 0.240153617f, 0.0558263178f, 0.00898934038f, 0.00187757656f};

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
#else
bool raise(const ScoreStrip&, float, float*, float*) { return false; }
void exponentials(const ScoreStrip&, float, const float*, float*) {}
#endif

}  // namespace

bool raise_shifts(const ScoreStrip& s, float scale, float* shift, float* factor) {
  return raise(s, scale, shift, factor);
}

void exponentials_in_place(const ScoreStrip& s, float scale, const float* shift, float* total) {
  exponentials(s, scale, shift, total);
}

}  // namespace easel::cpu
