// Into and out of the order in which matrix tiles multiply (amx_products.h).
#pragma once

#include "nn/cpu/amx_products.h"

namespace easel::cpu::amx {

// Rows of x, `in` values each, a multiple of kSide → [rows / 32, in / 32, 32, 32]; what is beyond the last row stays.
void pack_rows(const BF16* x, int64_t rows, int64_t in, BF16* to);

// What becomes of a channel on the way: silu(scale·x + shift), rounded to bfloat16. Null: the value itself.
struct Normed {
  const float *scale = nullptr, *shift = nullptr;
};
// kSide channels of `count` pixels, that lie at x + place[i] → [count, kSide]. ahead: as many lines as pixels that will
// be read soon.
void pack_pixels(const BF16* x, const int64_t* place, int64_t count, const Normed& norm, BF16* to, const char* ahead);

// From sums [rows, kSide] to kSide columns of y, whose rows are `stride` apart: with bias, and with the residual, laid
// out as y, where it is not null; rounded once.
struct FinishedRows final : RowWork {
  const float *sums, *bias;
  const BF16* residual;
  BF16* y;
  int64_t stride;
  void row(int64_t r) const override;
};

// (value + its bias) · gelu(gate + its bias).
struct FinishedGeglu final : RowWork {
  const float *values, *gates, *value_bias, *gate_bias;
  BF16* y;
  int64_t stride;
  void row(int64_t r) const override;
};

// Where a row of a convolution's sums belongs: a pixel of the result, or none.
struct PixelPlace {
  int64_t pixel = -1, picture = 0;
};
struct FinishedPixels final : RowWork {
  const float* sums;
  const PixelPlace* places;
  const float* shift;
  int64_t shift_stride;  // from picture to picture
  const BF16* residual;  // laid out as y; or null
  BF16* y;
  int64_t stride;
  void row(int64_t r) const override;
};

}  // namespace easel::cpu::amx
