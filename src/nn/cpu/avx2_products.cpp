#include "nn/cpu/avx2_products.h"

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu::avx2 {

#if defined(__x86_64__)
namespace {

constexpr int64_t kLanes = 8, kVectors = 2, kColumns = kVectors * kLanes;
constexpr int kRows = 6;          // 12 sums, a row of B and a value of A: 15 of 16 registers
constexpr int64_t kDepth = 256;   // of B at once: 16 KB, half of the first-level cache
constexpr int64_t kFewRows = 12;  // that are not worth bringing B's columns together

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

void tiles(const ProductSizes& s, const float* a, const float* b, float* c, bool adds, const Columns& columns) {
  int64_t row = 0;
  const auto run = [&]<int count>(std::integral_constant<int, count>) {
    tile<count>(s, a + row * s.a_stride, b, c + row * s.c_stride, adds, columns);
    row += count;
  };
  while (row + kRows <= s.rows) run(std::integral_constant<int, kRows>());
  if (s.rows - row >= 4) run(std::integral_constant<int, 4>());
  if (s.rows - row >= 2) run(std::integral_constant<int, 2>());
  if (s.rows - row >= 1) run(std::integral_constant<int, 1>());
}

// kColumns columns of B, or as many as there are and zeros.
EASEL_AVX2 void bring_together(const float* b, int64_t stride, int64_t depth, const Columns& columns, float* to) {
  for (int64_t d = 0; d < depth; ++d) {
    for (int v = 0; v < kVectors; ++v) _mm256_store_ps(to + d * kColumns + v * kLanes, columns.load(b + d * stride, v));
  }
}

}  // namespace

void multiply(const ProductSizes& s, const float* a, const float* b, float* c, bool adds) {
  alignas(64) float together[kDepth * kColumns];
  for (int64_t first = 0; first < s.depth; first += kDepth) {
    ProductSizes part = s;
    part.depth = std::min(kDepth, s.depth - first);
    for (int64_t column = 0; column < s.columns; column += kColumns) {
      const Columns columns(s.columns - column);
      const float* from = b + first * s.b_stride + column;
      part.b_stride = s.b_stride;
      if (s.rows > kFewRows || !columns.all) {
        bring_together(from, s.b_stride, part.depth, columns, together);
        from = together;
        part.b_stride = kColumns;
      }
      tiles(part, a + first, from, c + column, adds || first > 0, columns);
    }
  }
}
#else
void multiply(const ProductSizes&, const float*, const float*, float*, bool) {}
#endif

}  // namespace easel::cpu::avx2
