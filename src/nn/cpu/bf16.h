// Linears of bfloat16 on x86-64 without AMX: by the instructions of AVX512-BF16, or, where they are missing, by
// float32's products, for which values are widened on their way into the caches.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// Whether the processor has the products and the sizes fit.
bool can_bf16(int64_t in, int64_t out);

constexpr int64_t kBf16Columns = 64;  // of a block: one panel of the weight stays in the second-level cache

// weight [out, in] → the same sizes, in the kernel's own order: [out / 64 blocks, in / 2, 64, 2], the last block as
// wide as it is.
Tensor pack_bf16(const Tensor& weight);

// x: [..., in] → [..., out]; bias [out] and residual [..., out] may be undefined. Sums and what is added are float32,
// rounded once.
//
// Why not oneDNN's: measured on Zen 4 it reaches 0.37 to 0.44 of the 0.47 TFLOP/s that two cores have, this 0.39 to
// 0.46, and no sum between value, gate and product leaves the caches.
Tensor bf16_linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual);

// geglu(x·weight + bias) in one pass: [..., in] → [..., out / 2] (geglu.h). out / 2 is a multiple of 64.
bool can_bf16_geglu(const Tensor& packed);
Tensor bf16_geglu(const Tensor& x, const Tensor& packed, const Tensor& bias);

// A convolution as the linear of its patches, gathered a few hundred at a time. Only where values are widened: there
// oneDNN's convolutions of bfloat16 take three times as long.
bool can_bf16_convolution(at::IntArrayRef weight);
Tensor pack_bf16_convolution(const Tensor& weight);  // [out, in, kernel, kernel] → [out, kernel · kernel · in]

struct Patches {
  int64_t kernel, stride, padding;
  int64_t of(int64_t pixels) const { return (pixels + 2 * padding - kernel) / stride + 1; }
};

// x [B, in, height, width] → [B, out, ...], both channels last; bias [out] of any float, and residual as bf16_linear's.
Tensor bf16_convolution(const Tensor& x, const Tensor& packed, const Tensor& bias, const Patches& patches,
                        const Tensor& residual);

}  // namespace easel::cpu
