#include "vae/rows.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

namespace easel {

namespace {

// Gives the pages that lie inside of `bytes` at `begin` back to the system; what was in them is lost.
void release_pages(std::byte* begin, std::size_t bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t first = (address + page - 1) / page * page, last = (address + bytes) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

// Rows in memory. One tensor, of which pages are let go one by one: pieces of their own, allocated and freed among
// what the layers compute with, leave holes in the heap as large as half of the picture. On CUDA all rows are kept.
class StoredRows : public RowSource {
 public:
  explicit StoredRows(Tensor x) : x_(std::move(x)), end_(x_.size(2)) {}
  // The first of `height` rows; append() brings the others.
  StoredRows(const Tensor& first, int64_t height)
      : x_(at::empty({first.size(0), first.size(1), height, first.size(3)}, first.options(),
                     at::MemoryFormat::ChannelsLast)),
        is_own_(true) {
    append(first);
  }
  void append(const Tensor& rows) {
    x_.narrow(2, end_, rows.size(2)).copy_(rows);
    end_ += rows.size(2);
  }
  int64_t height() const override { return x_.size(2); }
  Tensor rows(int64_t top, int64_t bottom) const override {
    return x_.narrow(2, top, bottom - top).contiguous(at::MemoryFormat::ChannelsLast);
  }
  void drop_above(int64_t row) override {
    if (!is_own_ || !x_.is_cpu() || row <= dropped_) return;
    const auto row_bytes = static_cast<std::size_t>(x_.size(1) * x_.size(3)) * x_.element_size();
    for (int64_t b = 0; b < x_.size(0); ++b) {
      auto* rows = static_cast<std::byte*>(x_[b].mutable_data_ptr());
      release_pages(rows, row_bytes * static_cast<std::size_t>(row));
    }
    dropped_ = row;
  }

 private:
  Tensor x_;  // [B, C, H, W] channels-last
  int64_t end_ = 0, dropped_ = 0;
  bool is_own_ = false;
};

// A layer over another source of the same height.
class Layer : public RowSource {
 public:
  explicit Layer(Rows x) : x_(std::move(x)) {}
  int64_t height() const override { return x_->height(); }
  void drop_above(int64_t row) override { x_->drop_above(row); }

 protected:
  Rows x_;
};

// 3x3 over rows top … bottom of a picture `height` high, whose rows `input(from, to)` gives. Inside the picture the
// rows beside the range are its neighbours; outside of it they are the convolution's zeros.
template <class Input>
Tensor convolve(const Conv2d& conv, int64_t top, int64_t bottom, int64_t height, const Input& input) {
  const int64_t from = std::max<int64_t>(top - 1, 0), to = std::min(bottom + 1, height);
  return conv(input(from, to)).narrow(2, top - from, bottom - top);
}

class Convolved : public Layer {
 public:
  Convolved(const Conv2d& conv, Rows x) : Layer(std::move(x)), conv_(conv) {}
  Tensor rows(int64_t top, int64_t bottom) const override {
    return convolve(conv_, top, bottom, height(), [&](int64_t from, int64_t to) { return x_->rows(from, to); });
  }
  void drop_above(int64_t row) override { x_->drop_above(row - 1); }

 private:
  const Conv2d& conv_;
};

class Upsampled : public Layer {
 public:
  Upsampled(const Conv2d& conv, Rows x) : Layer(std::move(x)), conv_(conv) {}
  int64_t height() const override { return 2 * x_->height(); }
  Tensor rows(int64_t top, int64_t bottom) const override {
    return convolve(conv_, top, bottom, height(), [&](int64_t from, int64_t to) {
      const Tensor x = x_->rows(from / 2, (to + 1) / 2);
      return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)}).narrow(2, from % 2, to - from);
    });
  }
  void drop_above(int64_t row) override { x_->drop_above((row - 1) / 2); }

 private:
  const Conv2d& conv_;
};

class Downsampled : public Layer {
 public:
  Downsampled(const Downsample& downsample, Rows x) : Layer(std::move(x)), conv_(downsample.conv) {}
  int64_t height() const override { return x_->height() / 2; }
  Tensor rows(int64_t top, int64_t bottom) const override {
    // Row i sees the rows 2i, 2i + 1, 2i + 2; below the last there are zeros, as right of each.
    const int64_t to = std::min(2 * bottom + 1, x_->height());
    return conv_(at::constant_pad_nd(x_->rows(2 * top, to), {0, 1, 0, 2 * bottom + 1 - to}));
  }
  void drop_above(int64_t row) override { x_->drop_above(2 * row); }

 private:
  const Conv2d& conv_;
};

class Halved : public Layer {
 public:
  Halved(const Conv2d& conv, Rows x) : Layer(std::move(x)), conv_(conv) {}
  int64_t height() const override { return x_->height() / 2; }
  Tensor rows(int64_t top, int64_t bottom) const override {
    // Row i sees the rows 2i − 1, 2i, 2i + 1. The row above `top` is computed, too, so that the zeros above it fall on
    // nothing that is wanted.
    const int64_t from = std::max<int64_t>(top - 1, 0);
    return conv_(x_->rows(2 * from, 2 * bottom)).narrow(2, top - from, bottom - top);
  }
  void drop_above(int64_t row) override { x_->drop_above(2 * (row - 1)); }

 private:
  const Conv2d& conv_;
};

class Local : public Layer {
 public:
  Local(std::function<Tensor(const Tensor&)> layers, Rows x, int64_t reach)
      : Layer(std::move(x)), layers_(std::move(layers)), reach_(reach) {}
  Tensor rows(int64_t top, int64_t bottom) const override {
    // Inside the picture, zeros that the layers pad with change the `reach` outermost rows alone.
    const int64_t from = std::max<int64_t>(top - reach_, 0), to = std::min(bottom + reach_, height());
    return layers_(x_->rows(from, to)).narrow(2, top - from, bottom - top);
  }
  void drop_above(int64_t row) override { x_->drop_above(row - reach_); }

 private:
  std::function<Tensor(const Tensor&)> layers_;
  const int64_t reach_;
};

// ---- GroupNorm over the whole picture -----------------------------------------------------------------------------

struct Statistics {
  Tensor mean, variance;  // [B, groups] float64
};

template <class Visit>
void for_each_strip(int64_t height, int64_t strip, const Visit& visit) {
  for (int64_t top = 0; top < height; top += strip) visit(top, std::min(top + strip, height));
}

// Rows that stay in the processor's cache while they are worked on in float32.
int64_t chunk_of(const Tensor& x) {
  constexpr int64_t kChunk = 1 << 18;  // values
  return std::max<int64_t>(kChunk / (x.size(0) * x.size(1) * x.size(3)), 1);
}

// Each channel's mean and sum of squared differences from it; parts are joined as Chan, Golub & LeVeque 1979 join
// samples.
class ChannelSums {
 public:
  void add(const Tensor& part) {
    Tensor x = part.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    const double more = static_cast<double>(x.size(2) * x.size(3));
    const Tensor centre = x.mean({2, 3}, /*keepdim=*/true);
    const Tensor spread = x.sub_(centre).square_().sum({2, 3}).to(at::kDouble);
    const Tensor mean = centre.flatten(1).to(at::kDouble);
    if (count_ == 0) {
      mean_ = mean;
      squares_ = spread;
    } else {
      const Tensor step = mean - mean_;
      squares_ = squares_ + spread + step * step * (count_ * more / (count_ + more));
      mean_ = mean_ + step * (more / (count_ + more));
    }
    count_ += more;
  }
  Statistics of_groups(int64_t groups) const {
    const Tensor means = mean_.unflatten(1, {groups, -1}), squares = squares_.unflatten(1, {groups, -1});
    const Tensor mean = means.mean(2);
    return {mean, (squares / count_).mean(2) + (means - mean.unsqueeze(2)).square().mean(2)};
  }

 private:
  Tensor mean_, squares_;  // [B, C] float64
  double count_ = 0;
};

Statistics statistics(const RowSource& x, int64_t groups, int64_t strip) {
  ChannelSums sums;
  for_each_strip(x.height(), strip, [&](int64_t top, int64_t bottom) {
    const Tensor rows = x.rows(top, bottom);
    for_each_strip(rows.size(2), chunk_of(rows),
                   [&](int64_t from, int64_t to) { sums.add(rows.narrow(2, from, to - from)); });
  });
  return sums.of_groups(groups);
}

class NormSilu : public Layer {
 public:
  NormSilu(const GroupNorm& norm, Rows x, int64_t strip) : Layer(std::move(x)) {
    const Statistics s = statistics(*x_, norm.groups, strip);
    const int64_t width = norm.weight.size(0) / norm.groups;
    const auto by_channel = [&](const Tensor& t) { return t.repeat_interleave(width, 1); };
    const Tensor scale = by_channel(at::rsqrt(s.variance + norm.eps)) * norm.weight.to(at::kDouble);
    const auto shaped = [](const Tensor& t) { return t.to(at::kFloat).unsqueeze(-1).unsqueeze(-1); };
    scale_ = shaped(scale);
    shift_ = shaped(norm.bias.to(at::kDouble) - by_channel(s.mean) * scale);
  }
  Tensor rows(int64_t top, int64_t bottom) const override {
    const Tensor x = x_->rows(top, bottom);
    Tensor y = at::empty_like(x, x.options(), at::MemoryFormat::ChannelsLast);
    for_each_strip(x.size(2), chunk_of(x), [&](int64_t from, int64_t to) {
      Tensor part = x.narrow(2, from, to - from).to(at::kFloat).mul(scale_).add_(shift_);
      y.narrow(2, from, to - from).copy_(at::silu_(part));
    });
    return y;
  }

 private:
  Tensor scale_, shift_;  // [B, C, 1, 1] float32
};

// Keeps the rows that were asked for last: what is in them again is not computed again.
class Remembered : public Layer {
 public:
  using Layer::Layer;
  Tensor rows(int64_t top, int64_t bottom) const override {
    if (!last_.defined() || top < top_ || bottom > top_ + last_.size(2)) {
      last_ = Tensor();
      last_ = x_->rows(top, bottom);
      top_ = top;
    }
    return last_.narrow(2, top - top_, bottom - top).contiguous(at::MemoryFormat::ChannelsLast);
  }

 private:
  mutable Tensor last_;
  mutable int64_t top_ = 0;
};

class Sum : public Layer {
 public:
  Sum(Rows branch, Rows input, const ResnetBlock& block, Middle middle)
      : Layer(std::move(branch)), input_(std::move(input)), block_(block), middle_(middle) {}
  Tensor rows(int64_t top, int64_t bottom) const override {
    const Tensor branch = x_->rows(top, bottom);  // first: it sees more of the input
    const Tensor x = input_->rows(top, bottom);
    const Tensor sum = branch + (block_.conv_shortcut ? (*block_.conv_shortcut)(x) : x);
    return block_.output_scale == 1.0 ? sum : sum / block_.output_scale;
  }
  void drop_above(int64_t row) override {
    x_->drop_above(row);
    if (middle_ == Middle::kKept) input_->drop_above(row);  // the branch ends in the middle
  }

 private:
  Rows input_;
  const ResnetBlock& block_;
  const Middle middle_;
};

// Computed and kept, `strip` rows at a time.
Rows kept(const Rows& x, int64_t strip, bool drop_input) {
  std::shared_ptr<StoredRows> all;
  for_each_strip(x->height(), strip, [&](int64_t top, int64_t bottom) {
    const Tensor rows = x->rows(top, bottom);
    if (all)
      all->append(rows);
    else
      all = std::make_shared<StoredRows>(rows, x->height());
    if (drop_input) x->drop_above(bottom);
  });
  return all;
}

}  // namespace

Rows whole(const Tensor& x) { return std::make_shared<StoredRows>(x); }

Rows convolved(const Conv2d& conv, Rows x) { return std::make_shared<Convolved>(conv, std::move(x)); }
Rows upsampled(const Conv2d& conv, Rows x) { return std::make_shared<Upsampled>(conv, std::move(x)); }
Rows downsampled(const Downsample& downsample, Rows x) {
  return std::make_shared<Downsampled>(downsample, std::move(x));
}
Rows halved(const Conv2d& conv, Rows x) { return std::make_shared<Halved>(conv, std::move(x)); }
Rows local(std::function<Tensor(const Tensor&)> layers, Rows x, int64_t reach) {
  return std::make_shared<Local>(std::move(layers), std::move(x), reach);
}

Rows stored(const Rows& x, int64_t strip) { return kept(x, strip, /*drop_input=*/true); }

Rows norm_silu(const GroupNorm& norm, Rows x, int64_t strip) {
  return std::make_shared<NormSilu>(norm, std::move(x), strip);
}

Rows resnet(const ResnetBlock& block, Rows x, int64_t strip, Middle middle) {
  x = std::make_shared<Remembered>(std::move(x));
  Rows h = convolved(block.conv1, norm_silu(block.norm1, x, strip));
  if (middle == Middle::kKept) h = kept(h, strip, /*drop_input=*/false);
  Rows branch = convolved(block.conv2, norm_silu(block.norm2, std::move(h), strip));
  return std::make_shared<Sum>(std::move(branch), std::move(x), block, middle);
}

int64_t strip_of(const Tensor& x, int64_t width, int64_t channels, int64_t bytes) {
  const int64_t row = x.size(0) * channels * width * static_cast<int64_t>(x.element_size());
  return std::max<int64_t>(bytes / row, 4);
}

Tensor gathered(const Rows& x, int64_t strip) { return kept(x, strip, /*drop_input=*/true)->rows(0, x->height()); }

}  // namespace easel
