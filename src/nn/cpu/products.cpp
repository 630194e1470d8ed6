#include "nn/cpu/products.h"

#include <ATen/native/CPUBlas.h>

#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

namespace blas = at::native::cpublas;
using BF16 = at::BFloat16;

// ---- AVX512-BF16 --------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
#define EASEL_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

constexpr int64_t kLanes = 16;

// kRows × kVectors sums stay in registers while the depth passes; `last` masks the last vector's columns.
template <int kRows, int kVectors>
EASEL_AVX512_BF16 void tile(const ProductSizes& s, const BF16* a, const BF16* b, float* c, bool adds, __mmask16 last) {
  const auto mask = [last](int v) { return v + 1 == kVectors ? last : static_cast<__mmask16>(0xFFFF); };
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] = adds ? _mm512_maskz_loadu_ps(mask(v), c + r * s.c_stride + v * kLanes) : _mm512_setzero_ps();
  }
  for (int64_t d = 0; d < s.depth; d += 2) {
    __m512bh pairs[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
      pairs[v] = (__m512bh)_mm512_maskz_loadu_epi32(mask(v), b + d * s.b_stride + 2 * v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, a + r * s.a_stride + d, sizeof pair);
      const auto both = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], both, pairs[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) _mm512_mask_storeu_ps(c + r * s.c_stride + v * kLanes, mask(v), sums[r][v]);
  }
}

// As many rows as 32 registers hold beside a row of B.
constexpr int rows_beside(int vectors) { return vectors <= 3 ? 8 : vectors == 4 ? 6 : 5; }

template <int kVectors>
EASEL_AVX512_BF16 void column_block(const ProductSizes& s, const BF16* a, const BF16* b, float* c, bool adds,
                                    __mmask16 last) {
  constexpr int kRows = rows_beside(kVectors);
  int64_t r = 0;
  const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
    for (; r + kCount <= s.rows; r += kCount)
      tile<kCount, kVectors>(s, a + r * s.a_stride, b, c + r * s.c_stride, adds, last);
  };
  run(std::integral_constant<int, kRows>());
  run(std::integral_constant<int, 4>());
  run(std::integral_constant<int, 2>());
  run(std::integral_constant<int, 1>());
}

void multiply_avx512(const ProductSizes& s, const BF16* a, const BF16* b, float* c, bool adds) {
  constexpr int64_t kMost = 5;  // vectors of a block
  const int64_t vectors = (s.columns + kLanes - 1) / kLanes;
  for (int64_t first = 0; first < vectors;) {
    const int64_t left = vectors - first, count = left <= kMost ? left : left % kMost == 0 ? kMost : 4;
    const int64_t rest = s.columns - (first + count - 1) * kLanes;  // columns from the last vector on
    const auto last = static_cast<__mmask16>(rest >= kLanes ? 0xFFFF : (1 << rest) - 1);
    const BF16* from = b + 2 * first * kLanes;
    float* to = c + first * kLanes;
    switch (count) {
      case 1:
        column_block<1>(s, a, from, to, adds, last);
        break;
      case 2:
        column_block<2>(s, a, from, to, adds, last);
        break;
      case 3:
        column_block<3>(s, a, from, to, adds, last);
        break;
      case 4:
        column_block<4>(s, a, from, to, adds, last);
        break;
      default:
        column_block<5>(s, a, from, to, adds, last);
    }
    first += count;
  }
}
#else
void multiply_avx512(const ProductSizes&, const BF16*, const BF16*, float*, bool) {}
#endif

PairUnit find_pair_unit() {
  if (has_amx_bf16() && blas::could_pack(at::kBFloat16)) return PairUnit::kAmx;
  return has_avx512_bf16() ? PairUnit::kAvx512 : PairUnit::kNone;
}

}  // namespace

PairUnit pair_unit() {
  static const PairUnit unit = find_pair_unit();
  return unit;
}

void multiply(const ProductSizes& s, const BF16* a, const BF16* b, float* c, bool adds) {
  if (pair_unit() == PairUnit::kAmx)
    blas::brgemm(s.rows, s.columns, s.depth, s.a_stride, s.b_stride, s.c_stride, adds, a, b, c);
  else
    multiply_avx512(s, a, b, c, adds);
}

void multiply(const ProductSizes& s, const float* a, const float* b, float* c, bool adds) {
  blas::brgemm(s.rows, s.columns, s.depth, s.a_stride, s.b_stride, s.c_stride, adds, a, b, c, /*is_vnni=*/false);
}

void release_products() { blas::brgemm_release(pair_unit() == PairUnit::kAmx); }

}  // namespace easel::cpu
