#include "nn/cpu/panel_finish.h"

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/panels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

using BF16 = at::BFloat16;

#if defined(__x86_64__)
constexpr int64_t kLanes = 16;
constexpr __mmask16 kAll = 0xFFFF;  // without a mask GCC 12 warns of values that are never read (GCC bug 105593)

struct Floats {
  using T = float;
  EASEL_AVX512 EASEL_INLINE static __m512 load(__mmask16 mask, const T* x) { return _mm512_maskz_loadu_ps(mask, x); }
  EASEL_AVX512 EASEL_INLINE static void store(__mmask16 mask, T* x, __m512 v) { _mm512_mask_storeu_ps(x, mask, v); }
};

struct Widened {
  using T = BF16;
  EASEL_AVX512 EASEL_INLINE static __m512 load(__mmask16 mask, const T* x) {
    const __m512i bits = _mm512_maskz_cvtepu16_epi32(kAll, _mm256_maskz_loadu_epi16(mask, x));
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, bits, 16));
  }
};

struct OwnRounding : Widened {
  EASEL_AVX512_BF16 static void store(__mmask16 mask, T* x, __m512 v) {
    _mm256_mask_storeu_epi16(x, mask, (__m256i)_mm512_cvtneps_pbh(v));
  }
};

// narrow() of 16 values.
struct WrittenRounding : Widened {
  EASEL_AVX512 static void store(__mmask16 mask, T* x, __m512 v) {
    const __m512i bits = _mm512_castps_si512(v), one = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_maskz_and_epi32(kAll, _mm512_maskz_srli_epi32(kAll, bits, 16), one);
    const __m512i half = _mm512_maskz_add_epi32(kAll, odd, _mm512_set1_epi32(0x7FFF));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i sum = _mm512_maskz_add_epi32(kAll, bits, half);
    const __m512i kept = _mm512_mask_or_epi32(sum, nan, bits, _mm512_set1_epi32(0x400000));
    _mm256_mask_storeu_epi16(x, mask, _mm512_maskz_cvtepi32_epi16(kAll, _mm512_maskz_srli_epi32(kAll, kept, 16)));
  }
};

// By instructions, because the compiler's loop took a third of a product of depth 320.
template <class Values>
EASEL_AVX512_BF16 void finish_by(const float* sums, int64_t rows, int64_t columns, const float* bias,
                                 const typename Values::T* residual, int64_t stride, typename Values::T* y) {
  for (int64_t first = 0; first < columns; first += kLanes) {
    const int64_t left = columns - first;
    const auto mask = static_cast<__mmask16>(left >= kLanes ? 0xFFFF : (1 << left) - 1);
    const __m512 shift = _mm512_maskz_loadu_ps(mask, bias + first);
    for (int64_t r = 0; r < rows; ++r) {
      __m512 sum = _mm512_add_ps(_mm512_loadu_ps(sums + r * kPanelColumns + first), shift);
      if (residual != nullptr) sum = _mm512_add_ps(sum, Values::load(mask, residual + r * stride + first));
      Values::store(mask, y + r * stride + first, sum);
    }
  }
}
#endif

#define EASEL_FINISH_ROW(T)                                                                                      \
  EASEL_CLONES void finish_row(const float* sums, int64_t columns, const float* bias, const T* residual, T* y) { \
    for (int64_t i = 0; i < columns; ++i)                                                                        \
      y[i] = narrow<T>(sums[i] + bias[i] + (residual == nullptr ? 0.0f : widen(residual[i])));                   \
  }
EASEL_FINISH_ROW(float)
EASEL_FINISH_ROW(BF16)
#undef EASEL_FINISH_ROW

template <class T>
void finish_plain(const float* sums, int64_t rows, int64_t columns, const float* bias, const T* residual,
                  int64_t stride, T* y) {
  for (int64_t r = 0; r < rows; ++r)
    finish_row(sums + r * kPanelColumns, columns, bias, residual == nullptr ? nullptr : residual + r * stride,
               y + r * stride);
}

}  // namespace

void finish(const float* sums, int64_t rows, int64_t columns, const float* bias, const float* residual, int64_t stride,
            float* y) {
  auto by = finish_plain<float>;
#if defined(__x86_64__)
  if (has_avx512()) by = finish_by<Floats>;
#endif
  by(sums, rows, columns, bias, residual, stride, y);
}

void finish(const float* sums, int64_t rows, int64_t columns, const float* bias, const BF16* residual, int64_t stride,
            BF16* y) {
  auto by = finish_plain<BF16>;
#if defined(__x86_64__)
  if (has_avx512()) by = has_avx512_bf16() ? finish_by<OwnRounding> : finish_by<WrittenRounding>;
#endif
  by(sums, rows, columns, bias, residual, stride, y);
}

#define EASEL_FINISH_GEGLU(T)                                                                    \
  EASEL_CLONES void finish_geglu(const float* value, const float* gate, const float* value_bias, \
                                 const float* gate_bias, T* y) {                                 \
    for (int64_t i = 0; i < kPanelColumns; ++i)                                                  \
      y[i] = narrow<T>((value[i] + value_bias[i]) * gelu(gate[i] + gate_bias[i]));               \
  }
EASEL_FINISH_GEGLU(float)
EASEL_FINISH_GEGLU(BF16)
#undef EASEL_FINISH_GEGLU

}  // namespace easel::cpu
