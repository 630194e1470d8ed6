// What a convolution by minimal filtering reads (winograd.h): its sizes, where its values are, and patches of the
// input, transformed.
#pragma once

#include <ATen/Parallel.h>

#include "easel/vector_loops.h"
#include "nn/cpu/convolution.h"
#include "nn/cpu/panels.h"
#include "nn/cpu/winograd_transforms.h"

namespace easel::cpu::winograd {

struct Sizes {
  int64_t batch, in, out, height, width;
  int64_t rows() const { return (height + kTile - 1) / kTile; }  // of tiles
  int64_t columns() const { return (width + kTile - 1) / kTile; }
  int64_t tiles() const { return batch * rows() * columns(); }
  int64_t panels() const { return at::divup(out, kPanelColumns); }
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
  const Tensor& panels;
  const float* shift;
  const int64_t shift_stride;  // from picture to picture
  const T* residual;           // or null
  const ChannelAffine* norm;   // or null
  T* y;
  const std::vector<T> zeros;  // a pixel outside of the picture

  Parts(const Sizes& s, const Seen& seen, const Tensor& weight, const AddedToPixels& added, Tensor& out)
      : sizes(s),
        x(seen.x.contiguous(at::MemoryFormat::ChannelsLast)),
        row_of(nearest_places(x.size(2), s.height)),
        column_of(nearest_places(x.size(3), s.width)),
        panels(weight),
        shift(added.shift.const_data_ptr<float>()),
        shift_stride(added.shift.size(0) == 1 ? 0 : s.out),
        residual(added.residual.defined() ? added.residual.const_data_ptr<T>() : nullptr),
        norm(seen.norm ? &*seen.norm : nullptr),
        y(out.mutable_data_ptr<T>()),
        zeros(static_cast<std::size_t>(s.in)) {}
};

struct Place {
  int64_t batch, top, left;
};
inline Place place_of(const Sizes& s, int64_t tile) {
  const int64_t per_picture = s.rows() * s.columns(), inside = tile % per_picture;
  return {tile / per_picture, inside / s.columns() * kTile, inside % s.columns() * kTile};
}

// The patches that a run of tiles needs, transformed, `most` of them at a time.
template <class T>
class Patches {
 public:
  Patches(const Parts<T>& parts, int64_t most)
      : p_(parts),
        s_(parts.sizes),
        x_(parts.x.template const_data_ptr<T>()),
        x_height_(parts.x.size(2)),
        x_width_(parts.x.size(3)),
        planes_(at::empty({kPlanes * plane_stride(most * s_.in)}, at::kFloat)) {
    // A run begins and ends within a row of tiles; a row of pixels above and below them is read, too.
    if (p_.norm != nullptr) normed_.emplace(p_.x, *p_.norm, kTile * ((most + s_.columns() - 2) / s_.columns() + 1) + 2);
  }

  void read(int64_t first, int64_t count) {
    count_ = count;
    if (normed_) normed_->advance(first_row(first), end_row(first + count - 1));
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) read_tile(first + t, t);
    });
  }
  const float* plane(int64_t plane) const { return planes_.const_data_ptr<float>() + plane * stride(); }

 private:
  int64_t stride() const { return plane_stride(count_ * s_.in); }

  // Of the input's, that the tile needs.
  int64_t first_row(int64_t tile) const {
    const Place p = place_of(s_, tile);
    return p.batch * s_.height + std::max<int64_t>(p.top - 1, 0);
  }
  int64_t end_row(int64_t tile) const {
    const Place p = place_of(s_, tile);
    return p.batch * s_.height + std::min(p.top + kTile + 1, s_.height);
  }

  void read_tile(int64_t tile, int64_t place) {
    const Place p = place_of(s_, tile);
    const T* pixels[kPlanes];
    for (int64_t i = 0; i < kPatch; ++i) {
      const int64_t row = p.top + i - 1;
      for (int64_t j = 0; j < kPatch; ++j) {
        const int64_t column = p.left + j - 1;
        const bool inside = row >= 0 && row < s_.height && column >= 0 && column < s_.width;
        pixels[6 * i + j] = inside ? pixel(p.batch, row, column) : p_.zeros.data();
      }
    }
    transform_patch(pixels, s_.in, planes_.mutable_data_ptr<float>() + place * s_.in, stride());
  }

  const T* pixel(int64_t batch, int64_t row, int64_t column) const {
    if (normed_) return normed_->pixel(batch * s_.height + row, column);
    const int64_t y = p_.row_of[static_cast<std::size_t>(row)], x = p_.column_of[static_cast<std::size_t>(column)];
    return x_ + ((batch * x_height_ + y) * x_width_ + x) * s_.in;
  }

  const Parts<T>& p_;
  const Sizes& s_;
  const T* x_;
  const int64_t x_height_, x_width_;
  std::optional<NormedRows<T>> normed_;
  Tensor planes_;  // [36, most, in]
  int64_t count_ = 0;
};

}  // namespace easel::cpu::winograd
