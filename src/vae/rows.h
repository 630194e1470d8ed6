// Activations of a whole picture that are never in memory at once: layers as recipes for ranges of rows.
//
// A row of a layer's output needs a few rows of its input, so any range of rows can be computed by itself, with the
// neighbours that its convolutions see. Only GroupNorm looks at the whole picture: its statistics are gathered in a
// pass of their own, strip by strip. The result is that of the plain network up to rounding.
#pragma once

#include <functional>

#include "vae/blocks.h"

namespace easel {

// [B, C, H, W] by rows of the picture.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual int64_t height() const = 0;
  // [B, C, bottom − top, W], channels-last. 0 ≤ top < bottom ≤ height().
  virtual Tensor rows(int64_t top, int64_t bottom) const = 0;
  // Rows above this one will not be asked for again.
  virtual void drop_above(int64_t row) = 0;
};
using Rows = std::shared_ptr<RowSource>;

Rows whole(const Tensor& x);
Rows convolved(const Conv2d& conv, Rows x);  // 3x3, stride 1, padding 1
Rows upsampled(const Conv2d& conv, Rows x);  // to twice the size by nearest neighbour, then as convolved()
Rows downsampled(const Downsample& downsample, Rows x);
Rows halved(const Conv2d& conv, Rows x);  // 3x3, stride 2, padding 1

// Convolutions that keep the size and pad with zeros at each of them: a row sees `reach` rows on either side.
Rows local(std::function<Tensor(const Tensor&)> layers, Rows x, int64_t reach);

// Computed and kept, `strip` rows at a time; what it was computed from is dropped on the way.
Rows stored(const Rows& x, int64_t strip);

// The layers below read x twice to three times over, `strip` rows at a time.
Rows norm_silu(const GroupNorm& norm, Rows x, int64_t strip);

// What a ResNet block has between its two convolutions: kept beside its input, or computed twice, once for the
// statistics.
enum class Middle { kKept, kComputedTwice };
Rows resnet(const ResnetBlock& block, Rows x, int64_t strip, Middle middle);

// The rows of an activation `width` wide with `channels`, of x's batch and dtype, that take `bytes`.
int64_t strip_of(const Tensor& x, int64_t width, int64_t channels, int64_t bytes);

// All rows as one tensor.
Tensor gathered(const Rows& x, int64_t strip);

}  // namespace easel
