// Attention on the CPU, block by block.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// Softmax attention of `heads` heads side by side; q: [B, T, C], k and v: [B, S, C], float32 or bfloat16, rows
// contiguous → [B, T, C]. The softmax and all sums are float32; what is multiplied with v is rounded to bfloat16 where
// the processor multiplies that, as in ATen's flash attention.
//
// Why not at::scaled_dot_product_attention: with AMX it spends its time in exponentials and passes over the scores;
// without, it multiplies bfloat16 at a quarter of the processor's rate.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads);

// Whether attention() takes them, and is the faster one.
bool can_attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads);

}  // namespace easel::cpu
