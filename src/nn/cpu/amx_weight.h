// Weights in the order in which matrix tiles multiply.
#pragma once

#include "nn/cpu/panels.h"

namespace easel::cpu::amx {

// Whether bfloat16 is multiplied by tiles, and weights [out, in] or [out, in, 3, 3] of such sizes have their order.
bool can_pack(int64_t in, int64_t out);

// weight [out, in] (or [out, in, 1, 1]) or [out, in, 3, 3] of float16 or bfloat16 → as wide, bfloat16, in the order
// [out / 32, in / 32, places, 2, 16, 16, 2]: panels of 32 columns, their depth in blocks of 32, in each the places of a
// kernel, each of two halves of 16 columns, whose rows lie two by two.
PackedPanels pack_weight(const Tensor& weight);

}  // namespace easel::cpu::amx
