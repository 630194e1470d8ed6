// 3x3 convolutions by minimal filtering, F(4×4, 3×3) of Lavin & Gray 2016 (arXiv 1509.09308): 36 products where 144 are
// asked for.
#pragma once

#include "nn/cpu/convolution.h"

namespace easel::cpu {

// Whether there is one for weights [out, in, 3, 3] of stride 1; for bfloat16 not where the processor has AMX, which
// multiplies it faster than this does float32.
bool can_winograd(at::IntArrayRef weight, at::ScalarType dtype);

// Whether it is the faster one for a batch of pictures of that size. Small ones leave the tiles and what the filters'
// transform takes too little to do.
bool pays_winograd(int64_t batch, int64_t height, int64_t width);

// seen: float32 or bfloat16 → [B, out, height, width] channels-last. panels: of weights [out, in, 3, 3] (panels.h). All
// arithmetic is in float32.
//
// The filters are transformed on their way into the caches, some channels and columns at a time, for as many tiles as
// there are: transformed ones in memory would take four times as much of it, and reading them takes longer than
// transforming where there are few tiles. On Zen 3 it was 3 % of the time beside 128 tiles, 9 % beside 32.
Tensor winograd_convolution(const Seen& seen, const Tensor& panels, const AddedToPixels& added);

}  // namespace easel::cpu
