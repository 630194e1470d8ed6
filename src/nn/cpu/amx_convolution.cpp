#include "nn/cpu/amx_convolution.h"

#include <ATen/Parallel.h>

#include "nn/cpu/amx_rows.h"

namespace easel::cpu::amx {
namespace {

// Pictures of a batch lie below one another with a row of zeros between them: what a convolution needs beyond their
// edges.
struct Sizes {
  int64_t batch, in, out, height, width;
  int64_t rows() const { return batch * (height + 1) - 1; }
  bool is_between(int64_t row) const { return row < 0 || row % (height + 1) == height || row >= rows(); }
  int64_t picture_of(int64_t row) const { return row / (height + 1); }
  int64_t pixel_of(int64_t row, int64_t column) const { return (row - picture_of(row)) * width + column; }
};

// A part of the seen pictures that stays in the second-level cache, with a pixel around it. Its pixels, and those of
// the result, are counted row after row; `pitch` of them are a row's. Over the whole width a row's last pixel is its
// neighbour's first one: both are zero.
struct Window {
  int64_t top, bottom, left, right;  // rows and columns of the result
  int64_t pitch;
  int64_t results() const { return (bottom - top) * pitch; }
  int64_t inputs() const {  // as far as the last tile's rows see
    return (results() + kTileRows - 1) / kTileRows * kTileRows + 2 * pitch + 2;
  }
};

// Equal parts of the rows and the columns.
struct Division {
  int64_t strips, columns, parts;
  explicit Division(const Sizes& s) {
    constexpr int64_t kBytes = 1 << 20, kWidest = 128;
    columns = at::divup(s.width, kWidest);
    const int64_t threads = at::get_num_threads(), row = 2 * s.in * (at::divup(s.width, columns) + 2);
    const int64_t most = std::max<int64_t>(kBytes / row - 2, 1);
    strips = at::divup(s.rows(), most);
    if (strips > 1 || s.rows() * s.width > 1024) strips = std::min(at::divup(strips, threads) * threads, s.rows());
    parts = at::divup(threads, strips * columns);
  }
  int64_t windows() const { return strips * columns; }
  Window window(const Sizes& s, int64_t i) const {
    const int64_t strip = i / columns, column = i % columns;
    Window w{.top = s.rows() * strip / strips,
             .bottom = s.rows() * (strip + 1) / strips,
             .left = s.width * column / columns,
             .right = s.width * (column + 1) / columns,
             .pitch = s.width + 1};
    if (columns > 1) w.pitch = w.right - w.left + 2;
    return w;
  }
};

struct Parts {
  const Sizes sizes;
  const Tensor x;
  const std::vector<int64_t> row_of, column_of;
  const ChannelAffine* norm;  // or null
  const BF16* weight;
  const float* shift;
  const int64_t shift_stride;  // from picture to picture
  const BF16* residual;        // or null
  BF16* y;

  Parts(const Seen& seen, const Tensor& packed, const AddedToPixels& added, Tensor& out)
      : sizes{seen.x.size(0), seen.x.size(1), out.size(1), seen.height, seen.width},
        x(seen.x.contiguous(at::MemoryFormat::ChannelsLast)),
        row_of(nearest_places(x.size(2), seen.height)),
        column_of(nearest_places(x.size(3), seen.width)),
        norm(seen.norm ? &*seen.norm : nullptr),
        weight(packed.const_data_ptr<BF16>()),
        shift(added.shift.const_data_ptr<float>()),
        shift_stride(added.shift.size(0) == 1 ? 0 : sizes.out),
        residual(added.residual.defined() ? added.residual.const_data_ptr<BF16>() : nullptr),
        y(out.mutable_data_ptr<BF16>()) {}
};

// One thread's window: what it sees, block after block of the channels.
class Run {
 public:
  explicit Run(const Parts& parts) : p_(parts), s_(parts.sizes) {}

  void see(const Window& window) {
    flush();
    w_ = window;
    inputs_ = w_.inputs();
    values_ = reinterpret_cast<BF16*>(room_for(static_cast<std::size_t>(2 * inputs_ * s_.in)));
    for (int64_t i = 0; i < kTaps; ++i) taps_[i] = i / 3 * w_.pitch + i % 3;
    for (int64_t row = w_.top - 1; row <= w_.bottom; ++row) pack_row(row);
    const int64_t packed = (w_.bottom - w_.top + 2) * w_.pitch;
    for (int64_t block = 0; block < s_.in / kSide; ++block)
      std::fill_n(values_ + (block * inputs_ + packed) * kSide, (inputs_ - packed) * kSide, BF16());
    list_pixels();
  }

  void multiply(int64_t panel) {
    const Left left{values_, s_.in / kSide, inputs_ * kSide, kStep, taps_};
    const int64_t tiles = (w_.results() + kTileRows - 1) / kTileRows;
    for (int64_t tile = 0; tile < tiles; tile += kGroupTiles, turn_ = 1 - turn_) {
      const int64_t count = std::min(kGroupTiles, tiles - tile), row = tile * kTileRows;
      products_.multiply(left, row, count, p_.weight + panel * kSide * s_.in * kTaps, sums_[turn_], before_);
      before_ = finish(works_[turn_], panel, row, std::min(count * kTileRows, w_.results() - row));
    }
  }

  // Before the window is changed, and at the end.
  void flush() {
    products_.flush();
    before_();
    before_ = {};
  }

 private:
  void pack_row(int64_t row) {
    const int64_t first = (row - w_.top + 1) * w_.pitch;
    if (s_.is_between(row)) return fill(first, w_.pitch);
    const bool has_left = w_.left > 0, has_right = w_.right < s_.width;
    if (!has_left) fill(first, 1);
    if (!has_right && w_.pitch > w_.right - w_.left + 1) fill(first + w_.pitch - 1, 1);
    const int64_t picture = s_.picture_of(row), begin = w_.left - has_left, count = w_.right + has_right - begin;
    const int64_t source = picture * p_.x.size(2) + p_.row_of[static_cast<std::size_t>(row % (s_.height + 1))];
    places_.resize(static_cast<std::size_t>(count));
    for (int64_t i = 0; i < count; ++i)
      places_[static_cast<std::size_t>(i)] = p_.column_of[static_cast<std::size_t>(begin + i)] * s_.in;
    const BF16* from = p_.x.const_data_ptr<BF16>() + source * p_.x.size(3) * s_.in;
    const char* ahead = reinterpret_cast<const char*>(from + p_.x.size(3) * s_.in + places_[0]);
    for (int64_t block = 0; block < s_.in / kSide; ++block, ahead += 64 * count) {
      const int64_t channel = block * kSide;
      pack_pixels(from + channel, places_.data(), count, norm_of(picture, channel),
                  values_ + (block * inputs_ + first + !has_left) * kSide, ahead);
    }
  }

  void fill(int64_t first, int64_t count) {
    for (int64_t block = 0; block < s_.in / kSide; ++block)
      std::fill_n(values_ + (block * inputs_ + first) * kSide, count * kSide, BF16());
  }

  Normed norm_of(int64_t picture, int64_t channel) const {
    if (p_.norm == nullptr) return {};
    const int64_t at = picture * s_.in + channel;
    return {p_.norm->scale.const_data_ptr<float>() + at, p_.norm->shift.const_data_ptr<float>() + at};
  }

  void list_pixels() {
    pixels_.assign(static_cast<std::size_t>(w_.results()), {});
    auto to = pixels_.begin();
    for (int64_t row = w_.top; row < w_.bottom; ++row, to += w_.pitch) {
      if (s_.is_between(row)) continue;
      for (int64_t column = w_.left; column < w_.right; ++column)
        to[column - w_.left] = {s_.pixel_of(row, column), s_.picture_of(row)};
    }
  }

  RowsToDo finish(FinishedPixels& work, int64_t panel, int64_t first, int64_t count) const {
    const int64_t column = panel * kSide;
    work.sums = sums_[turn_];
    work.places = pixels_.data() + first;
    work.shift = p_.shift + column;
    work.shift_stride = p_.shift_stride;
    work.residual = p_.residual == nullptr ? nullptr : p_.residual + column;
    work.y = p_.y + column;
    work.stride = s_.out;
    return {&work, 0, count};
  }

  const Parts& p_;
  const Sizes& s_;
  Window w_ = {};
  int64_t inputs_ = 0;
  BF16* values_ = nullptr;  // [in / 32, inputs, 32]
  int64_t taps_[kTaps];
  std::vector<int64_t> places_;
  std::vector<PixelPlace> pixels_;  // of the results
  Products products_;
  FinishedPixels works_[2];  // the one before and the one that is being multiplied
  RowsToDo before_;
  int64_t turn_ = 0;
  alignas(64) float sums_[2][kGroupRows * kSide];
};

}  // namespace

Tensor convolution(const Seen& seen, const Tensor& packed, const AddedToPixels& added) {
  AddedToPixels more = added;
  Tensor y = room_for_pixels(seen, more);
  const Parts parts(seen, packed, more, y);
  const Sizes& s = parts.sizes;
  TORCH_CHECK(packed.numel() == kTaps * s.in * s.out, "weight of ", packed.sizes(), " for ", seen.x.sizes());
  const Division division(s);
  const int64_t panels = s.out / kSide;
  at::parallel_for(0, division.windows() * division.parts, 1, [&](int64_t begin, int64_t end) {
    const Tiles tiles;
    Run run(parts);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t part = task % division.parts;
      if (task == begin || part == 0) run.see(division.window(s, task / division.parts));
      for (int64_t panel = panels * part / division.parts; panel < panels * (part + 1) / division.parts; ++panel)
        run.multiply(panel);
    }
    run.flush();
  });
  return y;
}

}  // namespace easel::cpu::amx
