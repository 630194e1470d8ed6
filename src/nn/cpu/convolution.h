// What 3x3 convolutions by kernels of our own have in common: stride 1, padding 1, everything channels-last.
#pragma once

#include "easel/tensor.h"
#include "nn/cpu/group_norm.h"

namespace easel::cpu {

// What is added to each pixel.
struct AddedToPixels {
  Tensor shift;                // float32 [1 or B, out], the bias among it
  Tensor residual;             // [B, out, H, W] channels-last, of x's dtype; or undefined
  bool may_overwrite = false;  // the residual's memory, with the result
};

// Of a picture [B, in, h, w], float32 or bfloat16, seen as [B, in, height, width] by nearest neighbour. With `norm` [B,
// in], which wants that size, of silu(scale·x + shift), rounded to its dtype: a few rows of it at a time stay in the
// processor's caches, where group_norm()'s whole result goes through memory.
struct Seen {
  const Tensor& x;
  int64_t height, width;
  std::optional<ChannelAffine> norm = {};
};

// Where the rows or columns of the seen picture lie in the given one, as ATen rounds.
std::vector<int64_t> nearest_places(int64_t given, int64_t seen);

// Room for [B, out, height, width] channels-last: the residual's, if it may be overwritten and lies so. `added` is left
// with a residual that does.
Tensor room_for_pixels(const Seen& seen, AddedToPixels& added);

}  // namespace easel::cpu
