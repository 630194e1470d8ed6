#include "nn/cpu/amx_rows.h"

#include "nn/cpu/exp2_lanes.h"

namespace easel::cpu::amx {

#if defined(__x86_64__)
namespace {

constexpr __mmask16 kAll = 0xFFFF;  // without a mask GCC 12 warns of values that are never read (GCC bug 105593)

struct Lanes {  // of kSide values
  __m512 low, high;
};

EASEL_AVX512_BF16 EASEL_INLINE Lanes load_floats(const float* x) {
  return {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)};
}

EASEL_AVX512_BF16 EASEL_INLINE __m512 widen_lanes(const BF16* x) {
  const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, _mm512_maskz_cvtepu16_epi32(kAll, values), 16));
}
EASEL_AVX512_BF16 EASEL_INLINE Lanes load_halves(const BF16* x) { return {widen_lanes(x), widen_lanes(x + 16)}; }

EASEL_AVX512_BF16 EASEL_INLINE void store_halves(BF16* to, const Lanes& x) {
  _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(x.high, x.low));
}

EASEL_AVX512_BF16 EASEL_INLINE Lanes operator+(const Lanes& a, const Lanes& b) {
  return {_mm512_add_ps(a.low, b.low), _mm512_add_ps(a.high, b.high)};
}

// The quotient's reciprocal to 2^-14, a thirtieth of what bfloat16 rounds away. Of −∞ NaN.
EASEL_AVX512_BF16 EASEL_INLINE __m512 silu(__m512 x) {
  const __m512 e = exp2_by_cubic(_mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)));
  return _mm512_mul_ps(x, _mm512_maskz_rcp14_ps(kAll, _mm512_add_ps(e, _mm512_set1_ps(1))));
}

// x·Φ(x), Φ by Abramowitz & Stegun 1964, 7.1.26, whose factor is that of the smaller tail: relative errors stay small
// where gelu does.
EASEL_AVX512_BF16 EASEL_INLINE __m512 gelu(__m512 x) {
  const __m512 size = _mm512_abs_ps(x), one = _mm512_set1_ps(1);
  const __m512 t = _mm512_maskz_rcp14_ps(kAll, _mm512_fmadd_ps(size, _mm512_set1_ps(0.3275911f * 0.70710678f), one));
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0.5f * 1.061405429f), t, _mm512_set1_ps(0.5f * -1.453152027f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * 1.421413741f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * -0.284496736f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * 0.254829592f));
  const __m512 e = exp2_by_cubic(_mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.5f * 1.44269504f)));
  const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(p, t), e);
  const __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
  return _mm512_mul_ps(x, _mm512_mask_sub_ps(tail, above, one, tail));
}

template <bool kNorm>
EASEL_AVX512_BF16 void pack_pixels_by(const BF16* x, const int64_t* place, int64_t count, const Normed& norm, BF16* to,
                                      const char* ahead) {
  Lanes scale, shift;
  if (kNorm) scale = load_floats(norm.scale), shift = load_floats(norm.shift);
  for (int64_t i = 0; i < count; ++i) {
    __builtin_prefetch(ahead + 64 * i, 0, 2);
    if constexpr (kNorm) {
      const Lanes v = load_halves(x + place[i]);
      store_halves(to + i * kSide, {silu(_mm512_fmadd_ps(v.low, scale.low, shift.low)),
                                    silu(_mm512_fmadd_ps(v.high, scale.high, shift.high))});
    } else {
      _mm512_storeu_si512(to + i * kSide, _mm512_loadu_si512(x + place[i]));
    }
  }
}

}  // namespace

EASEL_AVX512_BF16 void pack_rows(const BF16* x, int64_t rows, int64_t in, BF16* to) {
  for (int64_t r = 0; r < rows; ++r, x += in) {
    BF16* row = to + r / kSide * kSide * in + r % kSide * kSide;
    for (int64_t d = 0; d < in; d += kSide) _mm512_storeu_si512(row + d * kSide, _mm512_loadu_si512(x + d));
  }
}

void pack_pixels(const BF16* x, const int64_t* place, int64_t count, const Normed& norm, BF16* to, const char* ahead) {
  const auto pack = norm.scale != nullptr ? pack_pixels_by<true> : pack_pixels_by<false>;
  pack(x, place, count, norm, to, ahead);
}

namespace {

constexpr int64_t kRowsAhead = 16;  // whose memory is fetched before they are written

EASEL_AVX512_BF16 EASEL_INLINE void finish_row(const float* sums, const float* bias, const BF16* residual, BF16* y) {
  Lanes sum = load_floats(sums) + load_floats(bias);
  if (residual != nullptr) sum = sum + load_halves(residual);
  store_halves(y, sum);
}

}  // namespace

EASEL_AVX512_BF16 void FinishedRows::row(int64_t r) const {
  const BF16* added = residual == nullptr ? nullptr : residual + r * stride;
  __builtin_prefetch(y + (r + kRowsAhead) * stride, /*for writing*/ 1);
  if (added != nullptr) __builtin_prefetch(added + kRowsAhead * stride);
  finish_row(sums + r * kSide, bias, added, y + r * stride);
}

EASEL_AVX512_BF16 void FinishedGeglu::row(int64_t r) const {
  __builtin_prefetch(y + (r + kRowsAhead) * stride, /*for writing*/ 1);
  const Lanes value = load_floats(values + r * kSide) + load_floats(value_bias);
  const Lanes gate = load_floats(gates + r * kSide) + load_floats(gate_bias);
  store_halves(y + r * stride, {_mm512_mul_ps(value.low, gelu(gate.low)), _mm512_mul_ps(value.high, gelu(gate.high))});
}

EASEL_AVX512_BF16 void FinishedPixels::row(int64_t r) const {
  const PixelPlace& place = places[r];
  if (place.pixel < 0) return;
  const int64_t at = place.pixel * stride;
  __builtin_prefetch(y + at + kRowsAhead * stride, /*for writing*/ 1);
  if (residual != nullptr) __builtin_prefetch(residual + at + kRowsAhead * stride);
  finish_row(sums + r * kSide, shift + place.picture * shift_stride, residual == nullptr ? nullptr : residual + at,
             y + at);
}
#else
void FinishedRows::row(int64_t) const {}
void FinishedGeglu::row(int64_t) const {}
void FinishedPixels::row(int64_t) const {}
void pack_rows(const BF16*, int64_t, int64_t, BF16*) {}
void pack_pixels(const BF16*, const int64_t*, int64_t, const Normed&, BF16*, const char*) {}
#endif

}  // namespace easel::cpu::amx
