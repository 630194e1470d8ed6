#include "nn/cpu/avx2_products.h"

#include <array>

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu::avx2 {

#if defined(__x86_64__)
namespace {

constexpr int64_t kLanes = 8, kVectors = kColumns / kLanes;
constexpr int kRows = 6;            // 12 sums, a row of B and a value of A: 15 of 16 registers
constexpr int64_t kDepth = 384;     // of a run at once: 24 KB, in the first-level cache
constexpr int64_t kBlockRows = 48;  // of A that pass over all runs, in the second-level cache

// The columns of C that there are.
struct Columns {
  __m256i masks[kVectors];
  bool all;

  EASEL_AVX2 explicit Columns(int64_t count) : all(count >= kColumns) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (int v = 0; v < kVectors; ++v)
      masks[v] = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count - v * kLanes)), lanes);
  }
  EASEL_AVX2 EASEL_INLINE __m256 load(const float* from, int v) const {
    return all ? _mm256_loadu_ps(from + v * kLanes) : _mm256_maskload_ps(from + v * kLanes, masks[v]);
  }
  EASEL_AVX2 EASEL_INLINE void store(float* to, int v, __m256 values) const {
    if (all)
      _mm256_storeu_ps(to + v * kLanes, values);
    else
      _mm256_maskstore_ps(to + v * kLanes, masks[v], values);
  }
};

// rows × kColumns sums stay in registers while the depth passes.
template <int rows>
EASEL_AVX2 void tile(const ProductSizes& s, const float* a, const float* b, float* c, bool adds,
                     const Columns& columns) {
  __m256 sums[rows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[r][v] = adds ? columns.load(c + r * s.c_stride, v) : _mm256_setzero_ps();
  }
  for (int64_t d = 0; d < s.depth; ++d) {
    __m256 row[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) row[v] = _mm256_loadu_ps(b + d * s.b_stride + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const __m256 same = _mm256_broadcast_ss(a + r * s.a_stride + d);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm256_fmadd_ps(same, row[v], sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) columns.store(c + r * s.c_stride, v, sums[r][v]);
  }
}

// Never a few rows alone, where there are more: their sums would wait for one another.
void tiles(const ProductSizes& s, const float* a, const float* b, float* c, bool adds, const Columns& columns) {
  constexpr auto kTiles = std::array{tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};
  for (int64_t row = 0; row < s.rows;) {
    const int64_t left = s.rows - row, count = left >= 2 * kRows ? kRows : left > kRows ? (left + 1) / 2 : left;
    kTiles[static_cast<std::size_t>(count - 1)](s, a + row * s.a_stride, b, c + row * s.c_stride, adds, columns);
    row += count;
  }
}

}  // namespace

void multiply(const ProductSizes& s, const float* a, const float* b, float* c, bool adds) {
  ProductSizes block = s;
  for (int64_t first = 0; first < s.depth; first += kDepth) {
    block.depth = std::min(kDepth, s.depth - first);
    for (int64_t row = 0; row < s.rows; row += kBlockRows) {
      block.rows = std::min(kBlockRows, s.rows - row);
      for (int64_t column = 0; column < s.columns; column += kColumns)
        tiles(block, a + row * s.a_stride + first, b + column / kColumns * s.b_run + first * s.b_stride,
              c + row * s.c_stride + column, adds || first > 0, Columns(s.columns - column));
    }
  }
}
#else
void multiply(const ProductSizes&, const float*, const float*, float*, bool) {}
#endif

}  // namespace easel::cpu::avx2
