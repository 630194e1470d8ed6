// The transforms of F(4×4, 3×3), a run of channels at a time (winograd.h).
#pragma once

#include "nn/cpu/products.h"

namespace easel::cpu {

constexpr int64_t kTile = 4, kPatch = 6, kPlanes = kPatch * kPatch;  // a tile of results needs a patch of the input
constexpr int64_t kChunk = 64;                                       // channels that are transformed at once

// From plane to plane, for planes of so many values: never a multiple of the distance at which lines share their place
// in the first-level cache.
constexpr int64_t plane_stride(int64_t values) { return (values + 15) / 16 * 16 + 16; }

// Both directions of one patch. pixels: the patch's 36, each with its channels behind it; planes: [36] × stride.
void transform_patch(const float* const* pixels, int64_t channels, float* planes, int64_t stride);
void transform_patch(const at::BFloat16* const* pixels, int64_t channels, float* planes, int64_t stride);

// The results of one tile, `count` ≤ kChunk channels: planes [36] × stride → out [16][kChunk], shift added.
void transform_products(const float* planes, int64_t stride, const float* shift, int64_t count, float (*out)[kChunk]);

// `count` filters side by side, a multiple of 16: [9] × pitch → planes [36] × stride.
void transform_filters(const float* filters, int64_t pitch, int64_t count, float* planes, int64_t stride);

}  // namespace easel::cpu
