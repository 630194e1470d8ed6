#include "nn/cpu/winograd.h"

#include <ATen/Parallel.h>

#include "easel/vector_loops.h"
#include "nn/cpu/half_rows.h"
#include "nn/cpu/products.h"
#include "nn/cpu/winograd_transforms.h"

namespace easel::cpu {
namespace {

#define EASEL_STORE_PIXEL(T)                                                                   \
  EASEL_CLONES void store_pixel(const float* values, const T* residual, int64_t count, T* y) { \
    if (residual == nullptr) {                                                                 \
      for (int64_t c = 0; c < count; ++c) y[c] = narrow<T>(values[c]);                         \
    } else {                                                                                   \
      for (int64_t c = 0; c < count; ++c) y[c] = narrow<T>(values[c] + widen(residual[c]));    \
    }                                                                                          \
  }
EASEL_STORE_PIXEL(float)
EASEL_STORE_PIXEL(at::BFloat16)
#undef EASEL_STORE_PIXEL

// What the transformed filters are kept in.
template <class T>
using Kept = std::conditional_t<std::is_same_v<T, float>, float, at::Half>;

struct Sizes {
  int64_t batch, in, out, height, width;
  int64_t rows() const { return (height + kTile - 1) / kTile; }  // of tiles
  int64_t columns() const { return (width + kTile - 1) / kTile; }
  int64_t tiles() const { return batch * rows() * columns(); }
  int64_t runs() const { return (out + run_columns() - 1) / run_columns(); }
  int64_t columns_in(int64_t run) const { return std::min(run_columns(), out - run * run_columns()); }
};

// silu(scale·x + shift) of the rows that a part of the tiles needs, the pictures of a batch below one another.
template <class T>
class NormedRows {
 public:
  // most: rows of a part
  NormedRows(const Tensor& x, const ChannelAffine& norm, int64_t most)
      : x_(x.const_data_ptr<T>()),
        scale_(norm.scale.const_data_ptr<float>()),
        shift_(norm.shift.const_data_ptr<float>()),
        channels_(x.size(1)),
        height_(x.size(2)),
        width_(x.size(3)),
        most_(std::min(most, x.size(0) * height_)),
        ring_(at::empty({most_ * width_ * channels_}, x.options())),
        rows_(ring_.mutable_data_ptr<T>()) {}

  // From now on rows first … last − 1 are there. Neither goes back.
  void advance(int64_t first, int64_t last) {
    at::parallel_for(std::max(first, end_), last, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t picture = row / height_ * channels_;
        affine_silu(x_ + row * width_ * channels_, place(row), width_, channels_, scale_ + picture, shift_ + picture);
      }
    });
    end_ = last;
  }
  const T* pixel(int64_t row, int64_t column) const { return place(row) + column * channels_; }

 private:
  T* place(int64_t row) const { return rows_ + row % most_ * width_ * channels_; }

  const T* x_;
  const float *scale_, *shift_;  // [B, C]
  const int64_t channels_, height_, width_, most_;
  Tensor ring_;
  T* rows_;
  int64_t end_ = 0;
};

// What a convolution is made of.
template <class T>
struct Parts {
  const Sizes sizes;
  const Tensor x;
  const std::vector<int64_t> row_of, column_of;  // of the input, by rows and columns of the results
  const Kept<T>* weight;
  const float unscale;
  const float* shift;
  const int64_t shift_stride;  // from picture to picture
  const T* residual;           // or null
  const ChannelAffine* norm;   // or null
  T* y;
  const std::vector<T> zeros;  // a pixel outside of the picture

  Parts(const Sizes& s, const Seen& seen, const WinogradWeight& w, const AddedToPixels& added, Tensor& out)
      : sizes(s),
        x(seen.x.contiguous(at::MemoryFormat::ChannelsLast)),
        row_of(nearest_places(x.size(2), s.height)),
        column_of(nearest_places(x.size(3), s.width)),
        weight(w.planes.const_data_ptr<Kept<T>>()),
        unscale(1 / w.scale),
        shift(added.shift.const_data_ptr<float>()),
        shift_stride(added.shift.size(0) == 1 ? 0 : s.out),
        residual(added.residual.defined() ? added.residual.const_data_ptr<T>() : nullptr),
        norm(seen.norm ? &*seen.norm : nullptr),
        y(out.mutable_data_ptr<T>()),
        zeros(static_cast<std::size_t>(s.in)) {}
};

// A run of tiles, `step` of them at a time, on all threads; or on one where it is called within at::parallel_for.
template <class T>
class Run {
 public:
  Run(const Parts<T>& parts, int64_t step)
      : p_(parts),
        s_(parts.sizes),
        step_(step),
        x_(parts.x.template const_data_ptr<T>()),
        x_height_(parts.x.size(2)),
        x_width_(parts.x.size(3)),
        input_(at::empty({kPlanes * step_ * s_.in}, at::kFloat)),
        products_(at::empty({kPlanes * step_ * s_.out}, at::kFloat)) {
    // A step begins and ends within a row of tiles; a row of pixels above and below them is read, too.
    if (p_.norm != nullptr)
      normed_.emplace(p_.x, *p_.norm, kTile * ((step_ + s_.columns() - 2) / s_.columns() + 1) + 2);
  }

  void operator()(int64_t from, int64_t to) {
    for (int64_t first = from; first < to; first += step_) {
      const int64_t count = std::min(step_, to - first);
      if (normed_) normed_->advance(first_row(first), end_row(first + count - 1));
      at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) read_tile(first + t, t, count);
      });
      multiply(count);
      at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) write_tile(first + t, t, count);
      });
    }
  }

 private:
  struct Place {
    int64_t batch, top, left;
  };
  Place place_of(int64_t tile) const {
    const int64_t per_picture = s_.rows() * s_.columns(), inside = tile % per_picture;
    return {tile / per_picture, inside / s_.columns() * kTile, inside % s_.columns() * kTile};
  }

  // Of the input's, that the tile needs.
  int64_t first_row(int64_t tile) const {
    const Place p = place_of(tile);
    return p.batch * s_.height + std::max<int64_t>(p.top - 1, 0);
  }
  int64_t end_row(int64_t tile) const {
    const Place p = place_of(tile);
    return p.batch * s_.height + std::min(p.top + kTile + 1, s_.height);
  }

  void read_tile(int64_t tile, int64_t place, int64_t tiles) {
    const Place p = place_of(tile);
    const T* pixels[kPlanes];
    for (int64_t i = 0; i < kPatch; ++i) {
      const int64_t row = p.top + i - 1;
      for (int64_t j = 0; j < kPatch; ++j) {
        const int64_t column = p.left + j - 1;
        const bool inside = row >= 0 && row < s_.height && column >= 0 && column < s_.width;
        pixels[6 * i + j] = inside ? pixel(p.batch, row, column) : p_.zeros.data();
      }
    }
    transform_patch(pixels, s_.in, input_.mutable_data_ptr<float>() + place * s_.in, tiles * s_.in);
  }

  const T* pixel(int64_t batch, int64_t row, int64_t column) const {
    if (normed_) return normed_->pixel(batch * s_.height + row, column);
    const int64_t y = p_.row_of[static_cast<std::size_t>(row)], x = p_.column_of[static_cast<std::size_t>(column)];
    return x_ + ((batch * x_height_ + y) * x_width_ + x) * s_.in;
  }

  static const float* as_floats(const float* kept, int64_t, std::vector<float>&) { return kept; }
  static const float* as_floats(const at::Half* kept, int64_t count, std::vector<float>& wide) {
    widen_row(kept, count, wide.data());
    return wide.data();
  }

  void multiply(int64_t tiles) {
    const int64_t runs = s_.runs();
    const float* input = input_.const_data_ptr<float>();
    float* products = products_.mutable_data_ptr<float>();
    at::parallel_for(0, kPlanes * runs, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> wide(std::is_same_v<Kept<T>, float> ? 0 : static_cast<std::size_t>(s_.in * run_columns()));
      for (int64_t task = begin; task < end; ++task) {
        const int64_t plane = task / runs, run = task % runs, columns = s_.columns_in(run);
        const ProductSizes sizes{tiles, columns, s_.in, s_.in, columns, s_.out};
        const Kept<T>* kept = p_.weight + (plane * s_.out + run * run_columns()) * s_.in;
        cpu::multiply(sizes, input + plane * tiles * s_.in, as_floats(kept, s_.in * columns, wide),
                      products + plane * tiles * s_.out + run * run_columns(), /*adds=*/false);
      }
      release_products();
    });
  }

  void write_tile(int64_t tile, int64_t place, int64_t tiles) {
    const Place p = place_of(tile);
    const int64_t rows = std::min(kTile, s_.height - p.top), columns = std::min(kTile, s_.width - p.left);
    float values[kTile * kTile][kChunk];
    for (int64_t first = 0; first < s_.out; first += kChunk) {
      const int64_t count = std::min(kChunk, s_.out - first);
      transform_products(products_.const_data_ptr<float>() + place * s_.out + first, tiles * s_.out, p_.unscale,
                         p_.shift + p.batch * p_.shift_stride + first, count, values);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          const int64_t at = ((p.batch * s_.height + p.top + i) * s_.width + p.left + j) * s_.out + first;
          store_pixel(values[4 * i + j], p_.residual == nullptr ? nullptr : p_.residual + at, count, p_.y + at);
        }
      }
    }
  }

  const Parts<T>& p_;
  const Sizes& s_;
  const int64_t step_;
  const T* x_;
  const int64_t x_height_, x_width_;
  std::optional<NormedRows<T>> normed_;
  Tensor input_, products_;  // [36, step, in], [36, step, out]
};

// Tiles whose transformed input and products are so many float32 values.
int64_t tiles_of(const Sizes& s, int64_t floats) { return std::max<int64_t>(16, floats / (kPlanes * (s.in + s.out))); }

// As few equal steps as have `most` tiles each.
int64_t equal_steps(int64_t tiles, int64_t most) {
  const int64_t steps = (tiles + most - 1) / most;
  return (tiles + steps - 1) / steps;
}

// Two ways. Of few channels each thread takes tiles of its own, so few at a time that they stay in its second-level
// cache while all of the weight passes by: 1.2 to 1.4 times as fast as the other way in SD's VAE at 512x512, on an
// AVX512 machine with 1 MB of it. Of many channels the weight is too large for that: the threads share each step,
// whose values are in the third-level cache or near it.
template <class T>
void convolve(const Parts<T>& parts) {
  constexpr int64_t kFewChannels = 256 * 256, kOwnFloats = 400'000, kSharedFloats = 4 << 20;
  const Sizes& s = parts.sizes;
  const int64_t own = tiles_of(s, kOwnFloats);
  if (s.in * s.out <= kFewChannels && s.tiles() >= 4 * own * at::get_num_threads()) {
    at::parallel_for(0, s.tiles(), own,
                     [&](int64_t begin, int64_t end) { Run<T>(parts, equal_steps(end - begin, own))(begin, end); });
  } else {
    Run<T>(parts, equal_steps(s.tiles(), tiles_of(s, kSharedFloats)))(0, s.tiles());
  }
}

}  // namespace

Tensor winograd_convolution(const Seen& seen, const WinogradWeight& weight, const AddedToPixels& added) {
  const Tensor& x = seen.x;
  const Sizes s{x.size(0), x.size(1), added.shift.size(1), seen.height, seen.width};
  TORCH_CHECK(weight.planes.numel() == kPlanes * s.in * s.out, "Winograd weight of ", weight.planes.numel(), " for ",
              x.sizes());
  AddedToPixels more = added;
  Tensor y = room_for_pixels(seen, more);
  if (x.scalar_type() == at::kFloat)
    convolve(Parts<float>(s, seen, weight, more, y));
  else
    convolve(Parts<at::BFloat16>(s, seen, weight, more, y));
  return y;
}

}  // namespace easel::cpu
