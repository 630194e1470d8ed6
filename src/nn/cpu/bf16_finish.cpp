#include "nn/cpu/bf16_finish.h"

#include "easel/vector_loops.h"
#include "nn/cpu/bf16.h"
#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

using BF16 = at::BFloat16;

#if defined(__x86_64__)
constexpr int64_t kLanes = 16;
constexpr __mmask16 kAll = 0xFFFF;  // without a mask GCC 12 warns of values that are never read (GCC bug 105593)

EASEL_AVX512 EASEL_INLINE __m512 widened(__mmask16 mask, const BF16* x) {
  const __m512i bits = _mm512_maskz_cvtepu16_epi32(kAll, _mm256_maskz_loadu_epi16(mask, x));
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, bits, 16));
}

struct OwnRounding {
  EASEL_AVX512_BF16 static __m256i round(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }
};

// narrow() of 16 values.
struct WrittenRounding {
  EASEL_AVX512 static __m256i round(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_maskz_and_epi32(kAll, _mm512_maskz_srli_epi32(kAll, bits, 16), one);
    const __m512i half = _mm512_maskz_add_epi32(kAll, odd, _mm512_set1_epi32(0x7FFF));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i sum = _mm512_maskz_add_epi32(kAll, bits, half);
    const __m512i kept = _mm512_mask_or_epi32(sum, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_maskz_cvtepi32_epi16(kAll, _mm512_maskz_srli_epi32(kAll, kept, 16));
  }
};

// By instructions, because the compiler's loop took a third of a product of depth 320.
template <class Rounding>
EASEL_AVX512_BF16 void finish_by(const float* sums, int64_t rows, int64_t columns, const float* bias,
                                 const BF16* residual, int64_t stride, BF16* y) {
  for (int64_t first = 0; first < columns; first += kLanes) {
    const int64_t left = columns - first;
    const auto mask = static_cast<__mmask16>(left >= kLanes ? 0xFFFF : (1 << left) - 1);
    const __m512 shift = _mm512_maskz_loadu_ps(mask, bias + first);
    for (int64_t r = 0; r < rows; ++r) {
      __m512 sum = _mm512_add_ps(_mm512_loadu_ps(sums + r * kBf16Columns + first), shift);
      if (residual != nullptr) sum = _mm512_add_ps(sum, widened(mask, residual + r * stride + first));
      _mm256_mask_storeu_epi16(y + r * stride + first, mask, Rounding::round(sum));
    }
  }
}

#endif

EASEL_CLONES void finish_row(const float* sums, int64_t columns, const float* bias, const BF16* residual, BF16* y) {
  for (int64_t i = 0; i < columns; ++i)
    y[i] = narrow<BF16>(sums[i] + bias[i] + (residual == nullptr ? 0.0f : widen(residual[i])));
}

void finish_plain(const float* sums, int64_t rows, int64_t columns, const float* bias, const BF16* residual,
                  int64_t stride, BF16* y) {
  for (int64_t r = 0; r < rows; ++r)
    finish_row(sums + r * kBf16Columns, columns, bias, residual == nullptr ? nullptr : residual + r * stride,
               y + r * stride);
}

}  // namespace

void finish(const float* sums, int64_t rows, int64_t columns, const float* bias, const BF16* residual, int64_t stride,
            BF16* y) {
  auto by = finish_plain;
#if defined(__x86_64__)
  if (has_avx512()) by = has_avx512_bf16() ? finish_by<OwnRounding> : finish_by<WrittenRounding>;
#endif
  by(sums, rows, columns, bias, residual, stride, y);
}

EASEL_CLONES void finish_geglu(const float* value, const float* gate, const float* value_bias, const float* gate_bias,
                               BF16* y) {
  for (int64_t i = 0; i < kBf16Columns; ++i)
    y[i] = narrow<BF16>((value[i] + value_bias[i]) * gelu(gate[i] + gate_bias[i]));
}

}  // namespace easel::cpu
