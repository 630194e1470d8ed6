// The transforms of F(4×4, 3×3), a run of channels at a time (winograd.h).
#pragma once

#include "nn/cpu/products.h"

namespace easel::cpu {

constexpr int64_t kTile = 4, kPatch = 6, kPlanes = kPatch * kPatch;  // a tile of results needs a patch of the input
constexpr int64_t kChunk = 64;                                       // channels that are transformed at once

// Both directions of one patch. pixels: the patch's 36, each with its channels behind it; planes: [36] × stride.
void transform_patch(const float* const* pixels, int64_t channels, float* planes, int64_t stride);
void transform_patch(const at::BFloat16* const* pixels, int64_t channels, float* planes, int64_t stride);

// The results of one tile, `count` ≤ kChunk channels: planes [36] × stride → out [16][kChunk], the weight's scale taken
// off and shift added.
void transform_products(const float* planes, int64_t stride, float unscale, const float* shift, int64_t count,
                        float (*out)[kChunk]);

// filters: [9][kMostRunColumns] → planes [36][kMostRunColumns].
void transform_filters(const float (*filters)[kMostRunColumns], int64_t count, float (*planes)[kMostRunColumns]);

}  // namespace easel::cpu
