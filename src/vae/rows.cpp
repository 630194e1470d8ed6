#include "vae/rows.h"

namespace easel {

namespace {

// Rows in memory, in pieces that are let go one by one.
class StoredRows : public RowSource {
 public:
  void append(Tensor piece) {
    bottoms_.push_back(height() + piece.size(2));
    pieces_.push_back(std::move(piece));
  }
  int64_t height() const override { return bottoms_.empty() ? 0 : bottoms_.back(); }
  Tensor rows(int64_t top, int64_t bottom) const override {
    std::vector<Tensor> parts;
    int64_t first = 0;
    for (std::size_t i = 0; i < pieces_.size(); first = bottoms_[i++]) {
      const int64_t from = std::max(top, first), to = std::min(bottom, bottoms_[i]);
      if (from < to) parts.push_back(pieces_[i].narrow(2, from - first, to - from));
    }
    return (parts.size() == 1 ? parts.front() : at::cat(parts, 2)).contiguous(at::MemoryFormat::ChannelsLast);
  }
  void drop_above(int64_t row) override {
    for (std::size_t i = 0; i < pieces_.size() && bottoms_[i] <= row; ++i) pieces_[i] = Tensor();
  }

 private:
  std::vector<Tensor> pieces_;
  std::vector<int64_t> bottoms_;
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
  Upsampled(const Upsample& upsample, Rows x) : Layer(std::move(x)), upsample_(upsample) {}
  int64_t height() const override { return 2 * x_->height(); }
  Tensor rows(int64_t top, int64_t bottom) const override {
    return convolve(upsample_.conv, top, bottom, height(), [&](int64_t from, int64_t to) {
      const Tensor x = x_->rows(from / 2, (to + 1) / 2);
      return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)}).narrow(2, from % 2, to - from);
    });
  }
  void drop_above(int64_t row) override { x_->drop_above((row - 1) / 2); }

 private:
  const Upsample& upsample_;
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

// ---- GroupNorm over the whole picture -----------------------------------------------------------------------------

struct Statistics {
  Tensor mean, variance;  // [B, groups] float64
};

template <class Visit>
void for_each_strip(const RowSource& x, int64_t strip, const Visit& visit) {
  for (int64_t top = 0; top < x.height(); top += strip) visit(top, std::min(top + strip, x.height()));
}

// Strips joined as Chan, Golub & LeVeque 1979 join samples.
Statistics statistics(const RowSource& x, int64_t groups, int64_t strip) {
  Tensor mean, squares;  // squares: sum of squared differences from the mean
  double count = 0;
  for_each_strip(x, strip, [&](int64_t top, int64_t bottom) {
    const Tensor part = x.rows(top, bottom).to(at::kFloat).unflatten(1, {groups, -1});
    const double more = static_cast<double>(part[0][0].numel());
    auto [variance, centre] = at::var_mean(part, at::IntArrayRef{2, 3, 4}, /*correction=*/0);
    centre = centre.to(at::kDouble);
    const Tensor spread = variance.to(at::kDouble) * more;
    if (count == 0) {
      mean = centre;
      squares = spread;
    } else {
      const Tensor step = centre - mean;
      squares = squares + spread + step * step * (count * more / (count + more));
      mean = mean + step * (more / (count + more));
    }
    count += more;
  });
  return {mean, squares / count};
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
    return at::silu_(x.to(at::kFloat).mul(scale_).add_(shift_)).to(x.scalar_type());
  }

 private:
  Tensor scale_, shift_;  // [B, C, 1, 1] float32
};

class Sum : public Layer {
 public:
  // `shortcut`: of the block's input; null for the input itself.
  Sum(Rows branch, Rows input, const Conv2d* shortcut, double output_scale)
      : Layer(std::move(branch)), input_(std::move(input)), shortcut_(shortcut), output_scale_(output_scale) {}
  Tensor rows(int64_t top, int64_t bottom) const override {
    const Tensor x = input_->rows(top, bottom);
    const Tensor sum = x_->rows(top, bottom) + (shortcut_ != nullptr ? (*shortcut_)(x) : x);
    return output_scale_ == 1.0 ? sum : sum / output_scale_;
  }

 private:
  Rows input_;
  const Conv2d* shortcut_;
  double output_scale_;
};

}  // namespace

Rows whole(const Tensor& x) {
  auto rows = std::make_shared<StoredRows>();
  rows->append(x);
  return rows;
}

Rows convolved(const Conv2d& conv, Rows x) { return std::make_shared<Convolved>(conv, std::move(x)); }
Rows upsampled(const Upsample& upsample, Rows x) { return std::make_shared<Upsampled>(upsample, std::move(x)); }
Rows downsampled(const Downsample& downsample, Rows x) {
  return std::make_shared<Downsampled>(downsample, std::move(x));
}

Rows stored(const Rows& x, int64_t strip) {
  auto kept = std::make_shared<StoredRows>();
  for_each_strip(*x, strip, [&](int64_t top, int64_t bottom) {
    kept->append(x->rows(top, bottom).contiguous(at::MemoryFormat::ChannelsLast));
    x->drop_above(bottom);
  });
  return kept;
}

Rows norm_silu(const GroupNorm& norm, Rows x, int64_t strip) {
  return std::make_shared<NormSilu>(norm, std::move(x), strip);
}

Rows resnet(const ResnetBlock& block, Rows x, int64_t strip) {
  const Rows h = convolved(block.conv1, norm_silu(block.norm1, x, strip));
  Rows branch = convolved(block.conv2, norm_silu(block.norm2, h, strip));
  const Conv2d* shortcut = block.conv_shortcut ? &*block.conv_shortcut : nullptr;
  return std::make_shared<Sum>(std::move(branch), std::move(x), shortcut, block.output_scale);
}

int64_t strip_of(const Tensor& x, int64_t width, int64_t channels, int64_t bytes) {
  const int64_t row = x.size(0) * channels * width * static_cast<int64_t>(x.element_size());
  return std::max<int64_t>(bytes / row, 4);
}

Tensor gathered(const Rows& x, int64_t strip) {
  std::vector<Tensor> parts;
  for_each_strip(*x, strip, [&](int64_t top, int64_t bottom) {
    parts.push_back(x->rows(top, bottom).contiguous(at::MemoryFormat::ChannelsLast));
    x->drop_above(bottom);
  });
  return at::cat(parts, 2);
}

}  // namespace easel
