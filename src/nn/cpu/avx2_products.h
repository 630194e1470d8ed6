// Products of float32 by AVX2 with FMA, where the processor has no AVX512: oneDNN offers none to others there.
#pragma once

#include "nn/cpu/products.h"

namespace easel::cpu::avx2 {

constexpr int64_t kColumns = 16;  // of a run

// multiply() of products.h. Measured on Zen 3: 92 to 99 % of a core's 0.099 TFLOP/s; 57 to 90 % with B's rows 64
// columns apart, whose parts share their places in the caches.
void multiply(const ProductSizes& s, const float* a, const float* b, float* c, bool adds);

}  // namespace easel::cpu::avx2
