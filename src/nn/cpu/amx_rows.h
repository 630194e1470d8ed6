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
void finish_rows(const float* sums, int64_t rows, const float* bias, const BF16* residual, int64_t stride, BF16* y);

// (value + its bias) · gelu(gate + its bias).
void finish_geglu(const float* value, const float* gate, int64_t rows, const float* value_bias, const float* gate_bias,
                  int64_t stride, BF16* y);

}  // namespace easel::cpu::amx
