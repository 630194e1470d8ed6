#include "nn/cpu/products.h"

#include <ATen/native/CPUBlas.h>

#include "nn/cpu/amx.h"
#include "nn/cpu/avx2_products.h"
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
#define EASEL_AVX512_DOTS __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")))

constexpr int64_t kLanes = 16;

// Sums of products of neighbours, in each lane.
struct Pairs {
  using A = BF16;
  using B = BF16;
  using C = float;
  static constexpr int64_t kDepth = 2;
  __m512 sum;
  EASEL_AVX512_DOTS void load(__mmask16 mask, const C* c) { sum = _mm512_maskz_loadu_ps(mask, c); }
  EASEL_AVX512_DOTS void clear() { sum = _mm512_setzero_ps(); }
  EASEL_AVX512_DOTS void add(__m512i a, __m512i b) { sum = _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
  EASEL_AVX512_DOTS void add_half(__m512i a, __m512i b) {
    asm("vdpbf16ps %t2, %t1, %t0" : "+v"(sum) : "v"(a), "v"(b));  // GCC 12 warns of the casts to and fro
  }
  EASEL_AVX512_DOTS void store(__mmask16 mask, C* c) const { _mm512_mask_storeu_ps(c, mask, sum); }
};

struct Quads {
  using A = uint8_t;
  using B = int8_t;
  using C = int32_t;
  static constexpr int64_t kDepth = 4;
  __m512i sum;
  EASEL_AVX512_DOTS void load(__mmask16 mask, const C* c) { sum = _mm512_maskz_loadu_epi32(mask, c); }
  EASEL_AVX512_DOTS void clear() { sum = _mm512_setzero_si512(); }
  EASEL_AVX512_DOTS void add(__m512i a, __m512i b) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));  // GCC 12 copies the sums around the intrinsic
  }
  EASEL_AVX512_DOTS void add_half(__m512i a, __m512i b) { asm("vpdpbusd %t2, %t1, %t0" : "+v"(sum) : "v"(a), "v"(b)); }
  EASEL_AVX512_DOTS void store(__mmask16 mask, C* c) const { _mm512_mask_storeu_epi32(c, mask, sum); }
};

// kRows × kVectors sums stay in registers while the depth passes; `last` masks the last vector's columns, kHalf says
// that they are eight at most: on Zen 4 half a vector takes half the time, which counts for heads of 40.
template <class Dots, int kRows, int kVectors, bool kHalf>
EASEL_AVX512_DOTS void tile(const ProductSizes& s, const typename Dots::A* a, const typename Dots::B* b,
                            typename Dots::C* c, bool adds, __mmask16 last) {
  const auto mask = [last](int v) { return v + 1 == kVectors ? last : static_cast<__mmask16>(0xFFFF); };
  Dots sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      if (adds)
        sums[r][v].load(mask(v), c + r * s.c_stride + v * kLanes);
      else
        sums[r][v].clear();
    }
  }
  for (int64_t d = 0; d < s.depth; d += Dots::kDepth) {
    __m512i row[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
      row[v] = _mm512_maskz_loadu_epi32(mask(v), b + d * s.b_stride + Dots::kDepth * v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      int32_t few;
      __builtin_memcpy(&few, a + r * s.a_stride + d, sizeof few);
      const __m512i same = _mm512_set1_epi32(few);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        if (kHalf && v + 1 == kVectors)
          sums[r][v].add_half(same, row[v]);
        else
          sums[r][v].add(same, row[v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[r][v].store(mask(v), c + r * s.c_stride + v * kLanes);
  }
}

// As many rows as 32 registers hold beside a row of B.
constexpr int rows_beside(int vectors) { return vectors <= 3 ? 8 : vectors == 4 ? 6 : 5; }

template <class Dots, int kVectors, bool kHalf>
EASEL_AVX512_DOTS void rows_of_block(const ProductSizes& s, const typename Dots::A* a, const typename Dots::B* b,
                                     typename Dots::C* c, bool adds, __mmask16 last) {
  constexpr int kRows = rows_beside(kVectors);
  int64_t r = 0;
  const auto run = [&]<int kCount>(std::integral_constant<int, kCount>) {
    for (; r + kCount <= s.rows; r += kCount)
      tile<Dots, kCount, kVectors, kHalf>(s, a + r * s.a_stride, b, c + r * s.c_stride, adds, last);
  };
  run(std::integral_constant<int, kRows>());
  run(std::integral_constant<int, 4>());
  run(std::integral_constant<int, 2>());
  run(std::integral_constant<int, 1>());
}

template <class Dots, int kVectors>
void column_block(const ProductSizes& s, const typename Dots::A* a, const typename Dots::B* b, typename Dots::C* c,
                  bool adds, __mmask16 last) {
  if (last <= 0xFF)
    rows_of_block<Dots, kVectors, true>(s, a, b, c, adds, last);
  else
    rows_of_block<Dots, kVectors, false>(s, a, b, c, adds, last);
}

template <class Dots>
void multiply_avx512(const ProductSizes& s, const typename Dots::A* a, const typename Dots::B* b, typename Dots::C* c,
                     bool adds) {
  constexpr int64_t kMost = 5;  // vectors of a block
  const int64_t vectors = (s.columns + kLanes - 1) / kLanes;
  for (int64_t first = 0; first < vectors;) {
    const int64_t left = vectors - first, count = left <= kMost ? left : left % kMost == 0 ? kMost : 4;
    const int64_t rest = s.columns - (first + count - 1) * kLanes;  // columns from the last vector on
    const auto last = static_cast<__mmask16>(rest >= kLanes ? 0xFFFF : (1 << rest) - 1);
    const typename Dots::B* from = b + Dots::kDepth * first * kLanes;
    typename Dots::C* to = c + first * kLanes;
    switch (count) {
      case 1:
        column_block<Dots, 1>(s, a, from, to, adds, last);
        break;
      case 2:
        column_block<Dots, 2>(s, a, from, to, adds, last);
        break;
      case 3:
        column_block<Dots, 3>(s, a, from, to, adds, last);
        break;
      case 4:
        column_block<Dots, 4>(s, a, from, to, adds, last);
        break;
      default:
        column_block<Dots, 5>(s, a, from, to, adds, last);
    }
    first += count;
  }
}

void multiply_pairs(const ProductSizes& s, const BF16* a, const BF16* b, float* c, bool adds) {
  multiply_avx512<Pairs>(s, a, b, c, adds);
}
void multiply_quads(const ProductSizes& s, const uint8_t* a, const int8_t* b, int32_t* c) {
  multiply_avx512<Quads>(s, a, b, c, /*adds=*/false);
}
#else
void multiply_pairs(const ProductSizes&, const BF16*, const BF16*, float*, bool) {}
void multiply_quads(const ProductSizes&, const uint8_t*, const int8_t*, int32_t*) {}
#endif

PairUnit find_pair_unit() {
  if (amx::has_tiles() && blas::could_pack(at::kBFloat16)) return PairUnit::kAmx;
  if (has_avx512_bf16()) return PairUnit::kAvx512;
  return has_float_products() ? PairUnit::kWidened : PairUnit::kNone;
}

}  // namespace

PairUnit pair_unit() {
  static const PairUnit unit = find_pair_unit();
  return unit;
}

void multiply(const ProductSizes& s, const BF16* a, const BF16* b, float* c, bool adds) {
  multiply_pairs(s, a, b, c, adds);
}

void multiply(const ProductSizes& s, const float* a, const float* b, float* c, bool adds) {
  if (!has_avx512()) return avx2::multiply(s, a, b, c, adds);
  for (int64_t first = 0; first < s.columns; first += kMostRunColumns) {
    const int64_t columns = std::min(kMostRunColumns, s.columns - first);
    blas::brgemm(s.rows, columns, s.depth, s.a_stride, s.b_stride, s.c_stride, adds, a,
                 b + first / kMostRunColumns * s.b_run, c + first, /*is_vnni=*/false);
  }
}

bool has_float_products() { return has_avx2(); }

int64_t run_columns() { return has_avx512() ? kMostRunColumns : avx2::kColumns; }

bool has_quads() { return has_avx512_vnni(); }

void multiply(const ProductSizes& s, const uint8_t* a, const int8_t* b, int32_t* c) { multiply_quads(s, a, b, c); }

void release_products() {
  if (has_avx512()) blas::brgemm_release(/*is_vnni=*/false);
}

}  // namespace easel::cpu
