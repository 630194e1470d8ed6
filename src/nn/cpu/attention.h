// Attention over many tokens in bfloat16 on the CPU, block by block.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// Softmax attention of `heads` heads side by side; q: [B, T, C], k and v: [B, S, C], bfloat16, rows contiguous →
// [B, T, C]. Products are oneDNN's (AMX where there is), the softmax and its sums float32; what is multiplied with v is
// rounded to bfloat16, as in ATen's flash attention.
//
// Why not at::scaled_dot_product_attention: from a few thousand tokens on it spends its time in exponentials and passes
// over the scores.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads);

// Whether attention() takes them, and is the faster one.
bool can_attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads);

}  // namespace easel::cpu
