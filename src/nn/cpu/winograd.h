// 3x3 convolutions by minimal filtering, F(4×4, 3×3) of Lavin & Gray 2016 (arXiv 1509.09308): 36 products where 144 are
// asked for.
#pragma once

#include "easel/weights.h"
#include "nn/cpu/convolution.h"

namespace easel::cpu {

// Whether it pays for weights [out, in, 3, 3] of stride 1: the transformed ones take four times their memory, so not
// those of the deepest levels; bfloat16 not where the processor has AMX, which multiplies it faster than this does
// float32.
bool can_winograd(at::IntArrayRef weight, at::ScalarType dtype, Coarsest coarsest);

int64_t winograd_bytes(at::IntArrayRef weight, at::ScalarType dtype);

// [36 · in · out] in the kernel's own order, times a power of two: beside bfloat16 in float16, whose rounding is an
// eighth of its own and whose range the power keeps them in; beside float32 in float32.
struct WinogradWeight {
  Tensor planes;
  float scale = 1;
};

// For x of dtype float32 or bfloat16. weight [out, in, 3, 3]: of dtype, or float16 or bfloat16.
WinogradWeight winograd_weight(const Tensor& weight, at::ScalarType dtype);

// seen: float32 or bfloat16 → [B, out, height, width] channels-last. All arithmetic is in float32.
Tensor winograd_convolution(const Seen& seen, const WinogradWeight& weight, const AddedToPixels& added);

}  // namespace easel::cpu
