// GroupNorm of a channels-last picture on the CPU, with SiLU if wanted, in two passes over memory.
#pragma once

#include "easel/tensor.h"
#include "nn/activation.h"

namespace easel::cpu {

// x: [B, C, H, W] channels-last, float32 or bfloat16; weight and bias: [C] of the same dtype. Sums are float32 in
// blocks and float64 across them, whatever x is.
//
// Why not at::group_norm: in bfloat16 it takes ten times as long on this layout, and SiLU reads and writes the result
// once more.
Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps,
                  Activation activation);

// Whether group_norm() takes x.
bool can_group_norm(const Tensor& x);

// What group_norm() does to each channel of each picture: scale·x + shift, float32 [B, C] both. One pass over memory.
struct ChannelAffine {
  Tensor scale, shift;
};
ChannelAffine group_norm_affine(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps);

// y = silu(scale·x + shift) of `pixels`, each with its channels behind it.
void affine_silu(const float* x, float* y, int64_t pixels, int64_t channels, const float* scale, const float* shift);
void affine_silu(const at::BFloat16* x, at::BFloat16* y, int64_t pixels, int64_t channels, const float* scale,
                 const float* shift);

}  // namespace easel::cpu
