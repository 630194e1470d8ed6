// Products of small matrices that lie in the processor's caches.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// What multiplies bfloat16: AMX (amx.h); AVX512-BF16 by a kernel of our own (oneDNN offers none to
// others there); on older x86-64 float32's products of widened values (oneDNN's take three times as long there, and
// want AVX512). kNone: none of these, because the processor has no AVX2 either.
enum class PairUnit { kNone, kAmx, kAvx512, kWidened };
PairUnit pair_unit();

struct ProductSizes {
  int64_t rows, columns, depth;
  int64_t a_stride, b_stride, c_stride;  // values from row to row; of paired B, values from pair to pair over 2
  int64_t b_run = 0;                     // values from run to run of float32's B
};

// Whether there are products of float32, and what goes with them in half_rows.h and softmax_columns.h: from AVX2 on.
bool has_float_products();

// Columns of float32's B that lie together, in a run: as many as the products pass over at once. With AVX2 a run's rows
// are so far apart and are read whole, whatever there is beyond the columns.
int64_t run_columns();
constexpr int64_t kMostRunColumns = 64;
inline bool has_wide_runs() { return run_columns() == kMostRunColumns; }  // libtorch's products, by AVX512

// C (+)= A·B with float32 sums. B in runs of columns, run after run [depth, run_columns()].
void multiply(const ProductSizes& s, const float* a, const float* b, float* c, bool adds);
// depth even, B in pairs of rows, [depth/2, columns, 2]; needs AVX512-BF16.
void multiply(const ProductSizes& s, const at::BFloat16* a, const at::BFloat16* b, float* c, bool adds);

// Whether there are products of eight bits that are faster than those of sixteen; C = A·B of them, depth a multiple of
// 4, B in fours of rows, [depth/4, columns, 4].
bool has_quads();
void multiply(const ProductSizes& s, const uint8_t* a, const int8_t* b, int32_t* c);

// Every thread that multiplied calls it afterwards: oneDNN's kernels may have a state of the thread.
void release_products();

}  // namespace easel::cpu
