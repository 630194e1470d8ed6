// Attention of bfloat16 by matrix tiles.
#pragma once

#include "nn/cpu/attention_blocks.h"

namespace easel::cpu::amx {

// As attend_f32(); the weights of the values are rounded to bfloat16 and summed as they are rounded, all sums are
// float32.
void attend(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionSizes& s, Tensor& out);

}  // namespace easel::cpu::amx
