// Products of bfloat16 by matrix tiles, 32 rows and 32 columns at a time.
#pragma once

#include "nn/cpu/amx.h"

namespace easel::cpu::amx {

using BF16 = at::BFloat16;

constexpr int64_t kSide = 32;             // columns of a panel, and the depth of one step of a product
constexpr int64_t kStep = kSide * kSide;  // values of a panel that a step takes: [2, 16, 16, 2]
constexpr int64_t kTileRows = 16;
constexpr int64_t kTile = kTileRows * kSide;  // values of bfloat16
constexpr int64_t kGroupTiles = 8;            // whose sums, 16 KB, stay in the first-level cache
constexpr int64_t kGroupRows = kGroupTiles * kTileRows;

// Rows to be multiplied, their depth in blocks of kSide: value d of row r of block b lies at values[b · block + (r /
// 32) · square + (r % 32) · 32 + d]. A convolution's row is multiplied as those at `taps` rows from it, one after the
// other within each block; its squares follow one another without a gap.
struct Left {
  const BF16* values;
  int64_t blocks, block, square;
  const int64_t* taps = nullptr;  // kTaps of them, or null for the row itself
  // Each value stands for two unsigned bytes, those of a panel for two signed ones, and sums are int32. Without taps.
  bool has_bytes = false;
};
constexpr int64_t kTaps = 9;

// What is to be done with rows of sums. It is done while the tiles multiply other ones: they and the vector registers
// work side by side.
class RowWork {
 public:
  virtual void row(int64_t r) const = 0;

 protected:
  ~RowWork() = default;
};
struct RowsToDo {
  const RowWork* work = nullptr;
  int64_t begin = 0, end = 0;
  void operator()() const {
    for (int64_t r = begin; r < end; ++r) work->row(r);
  }
};

// One thread's products, within the scope of Tiles. The sums of a product's last square are stored while the next one
// begins: a tile that is stored right after it was multiplied keeps the others waiting, for a third of the time of ten
// steps.
class Products {
 public:
  // sums [tiles · 16, 32] = rows first_row … · panel, [blocks, taps, 2, 16, 16, 2]; they are all there after the next
  // call or flush(). tiles ≤ kGroupTiles, first_row a multiple of 32. rows: of sums that earlier calls made.
  void multiply(const Left& a, int64_t first_row, int64_t tiles, const BF16* panel, float* sums, const RowsToDo& rows);
  void flush();

 private:
  float* pending_ = nullptr;  // where the tiles' sums are to be stored
  bool has_two_ = false;      // rows of tiles
};

}  // namespace easel::cpu::amx
