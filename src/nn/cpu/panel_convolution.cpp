// A convolution as the linear of its patches: a pixel of the result is a row, whose values are the pixels that the
// kernel sees.
#include "nn/cpu/panel_products.h"

namespace easel::cpu {

using namespace panels;

namespace {

// Without AVX512 oneDNN brings pictures of other than a few dozen channels into another order at every call: of the
// bundled model's U-Net five convolutions took 5 of a step's 23 ms.
bool pays_without_avx512(int64_t in, int64_t out) {
  constexpr int64_t kMany = 64, kFew = 16;
  const int64_t fewer = std::min(in, out);
  return fewer >= kMany || (fewer < kFew && std::max(in, out) >= kMany);
}

}  // namespace

bool can_panel_convolution(at::IntArrayRef weight, at::ScalarType dtype) {
  const int64_t places = weight[2] * weight[3], in = weight[1] * places;
  if (2 * places > kDepth || in % 2 != 0) return false;
  if (dtype == at::kBFloat16) return pair_unit() == PairUnit::kWidened;
  if (dtype != at::kFloat || !has_float_products()) return false;
  return has_wide_runs() ? can_panels(in, weight[0], dtype) : pays_without_avx512(weight[1], weight[0]);
}

namespace {

// One patch after the other, where it leaves the picture zeros: [channels / some, places, some], as a panel is widened.
template <class X>
class Gather {
 public:
  Gather(const Operands<X>& o, const Patches& patches)
      : x_(o.x),
        patches_(patches),
        some_(o.depth() / o.places),
        height_(patches.of(x_.size(2))),
        width_(patches.of(x_.size(3))) {}

  void operator()(int64_t pixel, float* to) const {
    const int64_t channels = x_.size(1);
    const int64_t top = pixel / width_ % height_ * patches_.stride - patches_.padding,
                  left = pixel % width_ * patches_.stride - patches_.padding;
    for (int64_t first = 0; first < channels; first += some_) {
      const int64_t count = std::min(some_, channels - first);
      for (int64_t i = top; i < top + patches_.kernel; ++i) {
        for (int64_t j = left; j < left + patches_.kernel; ++j, to += count)
          put(pixel / (height_ * width_), i, j, first, count, to);
      }
    }
  }

 private:
  void put(int64_t picture, int64_t i, int64_t j, int64_t channel, int64_t count, float* to) const {
    const int64_t height = x_.size(2), width = x_.size(3);
    if (i < 0 || i >= height || j < 0 || j >= width)
      std::fill_n(to, count, 0.0f);
    else
      widen_row(x_.const_data_ptr<X>() + ((picture * height + i) * width + j) * x_.size(1) + channel, count, to);
  }

  const Tensor& x_;
  const Patches& patches_;
  const int64_t some_, height_, width_;
};

}  // namespace

Tensor panel_convolution(const Tensor& x, const Tensor& packed, const Tensor& bias, const Patches& patches,
                         const Tensor& residual) {
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  const int64_t height = patches.of(x.size(2)), width = patches.of(x.size(3));
  Tensor y = at::empty({x.size(0), packed.size(0), height, width}, x.options().memory_format(kLast));
  with_type(x.scalar_type(), [&]<class X>(X) {
    Operands<X> o(x.contiguous(kLast), packed, bias, x.size(0) * height * width);
    o.by_pairs = false;  // patches are gathered in float32
    o.places = patches.kernel * patches.kernel;
    o.gather = Gather<X>(o, patches);
    multiply_all(o, residual.defined() ? residual.contiguous(kLast) : Tensor(), y);
  });
  return y;
}

}  // namespace easel::cpu
