// Products of bfloat16 by matrix tiles, 32 rows and 32 columns at a time.
#pragma once

#include "nn/cpu/amx.h"

namespace easel::cpu::amx {

using BF16 = at::BFloat16;

constexpr int64_t kSide = 32;             // columns of a panel, and the depth of one step of a product
constexpr int64_t kStep = kSide * kSide;  // values of a panel that a step takes: [2, 16, 16, 2]
constexpr int64_t kTileRows = 16;
constexpr int64_t kGroupTiles = 8;  // whose sums, 16 KB, stay in the first-level cache

// Rows to be multiplied, their depth in blocks of kSide: value d of row r of block b lies at values[b · block + (r /
// 32) · square + (r % 32) · 32 + d]. A convolution's row is multiplied as those at `taps` rows from it, one after the
// other within each block; its squares follow one another without a gap.
struct Left {
  const BF16* values;
  int64_t blocks, block, square;
  const int64_t* taps = nullptr;  // kTaps of them, or null for the row itself
};
constexpr int64_t kTaps = 9;

// sums [tiles · 16, 32] = rows first_row … · panel, [blocks, taps, 2, 16, 16, 2]. tiles ≤ kGroupTiles, first_row a
// multiple of 32. Within the scope of Tiles.
void multiply_group(const Left& a, int64_t first_row, int64_t tiles, const BF16* panel, float* sums);

}  // namespace easel::cpu::amx
