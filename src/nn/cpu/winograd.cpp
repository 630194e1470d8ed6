#include "nn/cpu/winograd.h"

#include <numeric>

#include "nn/cpu/products.h"
#include "nn/cpu/winograd_filters.h"
#include "nn/cpu/winograd_patches.h"

namespace easel::cpu {
namespace {

using winograd::Parts, winograd::Place, winograd::Sizes;

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

// Channels whose filters are transformed at once. With 64, whose filters stay in the second-level cache, a product took
// 1.4 times as long on Zen 3: a run of patches is read in short pieces, and its sums are read and written more often.
constexpr int64_t kDepth = 320;
constexpr int64_t kMostTiles = 128;

// One thread's products and results of a panel's columns and at most `most` tiles.
template <class T>
class Worker {
 public:
  Worker(const Parts<T>& parts, const winograd::Patches<T>& patches, int64_t most)
      : p_(parts),
        s_(parts.sizes),
        patches_(patches),
        filters_(at::empty({kPlanes * plane_stride(std::min(kDepth, s_.in) * kPanelColumns)}, at::kFloat)),
        products_(at::empty({kPlanes * plane_stride(most * kPanelColumns)}, at::kFloat)) {}

  // Tiles first, … of a run that begins with tile `from`.
  void operator()(int64_t panel, int64_t from, int64_t first, int64_t count) {
    const int64_t column = panel * kPanelColumns, columns = std::min(kPanelColumns, s_.out - column);
    for (int64_t channel = 0; channel < s_.in; channel += kDepth)
      multiply({column, columns, channel, std::min(kDepth, s_.in - channel)}, first, count);
    for (int64_t t = 0; t < count; ++t) write_tile(from + first + t, t, count, column, columns);
  }

 private:
  void transform(const FilterPart& part) {
    if (part.column == column_ && part.channel == channel_) return;
    transform_panels(p_.panels, part, filters_.mutable_data_ptr<float>());
    column_ = part.column, channel_ = part.channel;
  }

  void multiply(const FilterPart& part, int64_t first, int64_t count) {
    transform(part);
    const int64_t run = run_columns(), stride = filter_stride(part);
    for (int64_t plane = 0; plane < kPlanes; ++plane)
      cpu::multiply({count, part.columns, part.count, s_.in, run, kPanelColumns, part.count * run},
                    patches_.plane(plane) + first * s_.in + part.channel,
                    filters_.const_data_ptr<float>() + plane * stride,
                    products_.mutable_data_ptr<float>() + plane * plane_stride(count * kPanelColumns),
                    /*adds=*/part.channel > 0);
  }

  void write_tile(int64_t tile, int64_t place, int64_t tiles, int64_t column, int64_t columns) {
    const Place p = place_of(s_, tile);
    const int64_t rows_left = std::min(kTile, s_.height - p.top), columns_left = std::min(kTile, s_.width - p.left);
    float values[kTile * kTile][kChunk];
    transform_products(products_.const_data_ptr<float>() + place * kPanelColumns, plane_stride(tiles * kPanelColumns),
                       p_.shift + p.batch * p_.shift_stride + column, columns, values);
    for (int64_t i = 0; i < rows_left; ++i) {
      for (int64_t j = 0; j < columns_left; ++j) {
        const int64_t at = ((p.batch * s_.height + p.top + i) * s_.width + p.left + j) * s_.out + column;
        store_pixel(values[4 * i + j], p_.residual == nullptr ? nullptr : p_.residual + at, columns, p_.y + at);
      }
    }
  }

  const Parts<T>& p_;
  const Sizes& s_;
  const winograd::Patches<T>& patches_;
  Tensor filters_, products_;           // [36, runs, kDepth, run_columns()], [36, most, kPanelColumns]
  int64_t column_ = -1, channel_ = -1;  // of filters_
};

// As few equal parts as have `most` tiles each.
int64_t equal_parts(int64_t tiles, int64_t most) { return at::divup(tiles, at::divup(tiles, most)); }

// The products of a run: panels × shares of its tiles. A thread gets tasks that follow one another.
class Tasks {
 public:
  Tasks(const Sizes& s, int64_t tiles)
      : threads_(at::in_parallel_region() ? 1 : at::get_num_threads()),
        panels_(s.panels()),
        evens_out_(threads_ > 1 && s.out % kPanelColumns != 0),
        tiles_(tiles),
        step_(step()) {}

  int64_t count() const { return panels_ * shares(); }
  int64_t most() const { return step_; }
  // Where the last panel is a narrow one, each thread gets a share of every panel; else panel after panel, whose
  // filters are then transformed by one thread or two.
  int64_t panel(int64_t task) const { return evens_out_ ? task % panels_ : task / shares(); }
  int64_t first(int64_t task) const { return (evens_out_ ? task / panels_ : task % shares()) * step_; }
  int64_t tiles(int64_t task) const { return std::min(step_, tiles_ - first(task)); }

 private:
  int64_t shares() const { return at::divup(tiles_, step_); }

  // So few that each thread has as many tasks as the others.
  int64_t step() const {
    constexpr int64_t kFewest = 32;  // below, the filters' transform takes too large a part
    const int64_t wanted = evens_out_ ? threads_ : threads_ / std::gcd(threads_, panels_);
    return equal_parts(tiles_, std::clamp(at::divup(tiles_, wanted), kFewest, kMostTiles));
  }

  const int64_t threads_, panels_;
  const bool evens_out_;
  const int64_t tiles_, step_;
};

// Tiles from … to − 1, at most `most` patches of them at a time, on all threads; or on one where it is called within
// at::parallel_for.
template <class T>
void convolve_run(const Parts<T>& parts, int64_t from, int64_t to, int64_t most) {
  const int64_t step = equal_parts(to - from, most);
  winograd::Patches<T> patches(parts, step);
  for (int64_t first = from; first < to; first += step) {
    const int64_t count = std::min(step, to - first);
    patches.read(first, count);
    const Tasks tasks(parts.sizes, count);
    at::parallel_for(0, tasks.count(), 1, [&](int64_t begin, int64_t end) {
      Worker<T> worker(parts, patches, tasks.most());
      for (int64_t task = begin; task < end; ++task)
        worker(tasks.panel(task), first, tasks.first(task), tasks.tiles(task));
      release_products();
    });
  }
}

// Tiles whose transformed patches are so many float32 values.
int64_t tiles_of(const Sizes& s, int64_t floats) { return std::max<int64_t>(64, floats / (kPlanes * s.in)); }

// Two ways. Of few channels each thread takes tiles of its own, whose patches stay in the caches next to it. Of many
// channels that would be few tiles for each transform of the filters: the threads share the patches, which are in the
// third-level cache or near it, and each takes columns of its own.
template <class T>
void convolve(const Parts<T>& parts) {
  constexpr int64_t kFewChannels = 256, kOwnFloats = 400'000, kSharedFloats = 4 << 20;
  const Sizes& s = parts.sizes;
  const int64_t own = tiles_of(s, kOwnFloats);
  if (s.in <= kFewChannels && s.tiles() >= 4 * own * at::get_num_threads()) {
    at::parallel_for(0, s.tiles(), own, [&](int64_t begin, int64_t end) { convolve_run(parts, begin, end, own); });
  } else {
    convolve_run(parts, 0, s.tiles(), tiles_of(s, kSharedFloats));
  }
}

}  // namespace

bool can_winograd(at::IntArrayRef weight, at::ScalarType dtype) {
  constexpr int64_t kFewest = 64;  // channels
  if (weight.size() != 4 || weight[2] != 3 || weight[3] != 3 || !has_float_products()) return false;
  const int64_t out = weight[0], in = weight[1];
  const bool pays = dtype == at::kFloat || (dtype == at::kBFloat16 && pair_unit() != PairUnit::kAmx);
  return pays && std::min(in, out) >= kFewest && in % 16 == 0 && out % 16 == 0;
}

bool pays_winograd(int64_t batch, int64_t height, int64_t width) {
  constexpr int64_t kTransform = 80;  // of a filter, in products
  const int64_t tiles = batch * at::divup(height, kTile) * at::divup(width, kTile);
  return kPlanes * tiles + kTransform < 9 * batch * height * width;
}

Tensor winograd_convolution(const Seen& seen, const Tensor& panels, const AddedToPixels& added) {
  const Tensor& x = seen.x;
  const Sizes s{x.size(0), x.size(1), added.shift.size(1), seen.height, seen.width};
  TORCH_CHECK(panels.numel() == 9 * s.in * s.out, "Winograd weight of ", panels.sizes(), " for ", x.sizes());
  AddedToPixels more = added;
  Tensor y = room_for_pixels(seen, more);
  if (x.scalar_type() == at::kFloat)
    convolve(Parts<float>(s, seen, panels, more, y));
  else
    convolve(Parts<at::BFloat16>(s, seen, panels, more, y));
  return y;
}

}  // namespace easel::cpu
