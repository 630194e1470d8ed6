// Products of float32 by AVX2 with FMA, where the processor has no AVX512: oneDNN offers none to others there.
#pragma once

#include "nn/cpu/products.h"

namespace easel::cpu::avx2 {

// multiply() of products.h. The columns of B are brought together, 16 at a time, so that they are read in whole runs of
// cache lines. Measured on Zen 3: 0.093 of the 0.098 TFLOP/s that a core has, 0.075 to 0.09 with B as it lies.
void multiply(const ProductSizes& s, const float* a, const float* b, float* c, bool adds);

}  // namespace easel::cpu::avx2
