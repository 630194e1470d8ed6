// 3x3 convolutions of bfloat16 by matrix tiles.
#pragma once

#include "nn/cpu/convolution.h"

namespace easel::cpu::amx {

// seen: of bfloat16; packed: of pack_weight() (amx_weight.h) → [B, out, height, width] channels-last. Sums and what is
// added are float32, rounded once.
Tensor convolution(const Seen& seen, const Tensor& packed, const AddedToPixels& added);

}  // namespace easel::cpu::amx
