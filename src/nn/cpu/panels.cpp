#include "nn/cpu/panels.h"

#include <ATen/Parallel.h>

#include <functional>

#include "easel/vector_loops.h"
#include "nn/cpu/half_rows.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/panel_finish.h"
#include "nn/cpu/products.h"

namespace easel::cpu {
namespace {

using BF16 = at::BFloat16;

constexpr int64_t kColumns = kPanelColumns;
constexpr int64_t kDepth = 1024;    // of a panel's widened values
constexpr int64_t kMostRows = 288;  // of a task

// A block's part of a row, 64 values of which lie a row apart from the next, while the products before them last.
enum Purpose { kForReading, kForWriting };
template <Purpose purpose, class T>
void fetch(const T* row, int64_t columns) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t first = 0; first < columns; first += kLine) __builtin_prefetch(row + first, purpose);
}

EASEL_CLONES void widen_values(const BF16* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}
void widen_values(const float* from, int64_t count, float* to) { std::copy_n(from, count, to); }

// [pairs, columns, 2] → [2 · pairs, columns]. Of a convolution's `places` neighbours belong to one channel: they go
// where a patch has that channel, among those of one place.
template <class W>
void widen_panel(const W* from, int64_t pairs, int64_t columns, int64_t places, float* to) {
  const int64_t channels = 2 * pairs / places;
  const auto row = [&](int64_t n) { return to + (n % places * channels + n / places) * columns; };
  for (int64_t p = 0; p < pairs; ++p) widen_pairs(from + 2 * p * columns, columns, row(2 * p), row(2 * p + 1));
}

bool multiplies_pairs(at::ScalarType x, at::ScalarType weight) {
  return x == at::kBFloat16 && weight == at::kBFloat16 && pair_unit() == PairUnit::kAvx512;
}

// The rows of a product as they lie, or the patches of a picture that a convolution's kernel sees, which are rows once
// they are gathered.
template <class X>
struct Operands {
  Tensor x, packed, bias;
  int64_t rows, in, out;
  bool by_pairs;
  int64_t places = 1;                                  // that a convolution's kernel sees
  std::function<void(int64_t row, float* to)> gather;  // in float32; of rows that lie in x: empty

  Operands(const Tensor& x_, const Tensor& packed_, const Tensor& bias_, int64_t rows_)
      : x(x_),
        packed(packed_),
        bias(bias_.defined() ? bias_.to(at::kFloat).contiguous() : at::zeros({packed.size(0)}, at::kFloat)),
        rows(rows_),
        in(packed.size(1)),
        out(packed.size(0)),
        by_pairs(multiplies_pairs(x.scalar_type(), packed.scalar_type())) {}
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  const X* row(int64_t r) const { return x.const_data_ptr<X>() + r * in; }
  const float* bias_of(int64_t block) const { return bias.const_data_ptr<float>() + block * kColumns; }
  template <class W>
  const W* panel(int64_t block) const {
    return packed.const_data_ptr<W>() + block * kColumns * in;
  }
  bool needs_copies() const { return !by_pairs && (gather || !std::is_same_v<X, float>); }
  // Of a panel's widened values: whole channels and whole pairs.
  int64_t depth() const { return kDepth / (2 * places) * (2 * places); }
  // Of a task: its sums stay in the first-level cache, unless a panel has to be widened for each task.
  int64_t task_rows() const { return by_pairs ? 24 : in <= depth() ? 72 : kMostRows; }
  // Rows that every panel passes over, in float32 in the third-level cache.
  int64_t chunk() const {
    constexpr int64_t kMost = 1024, kValues = int64_t{3} << 20;
    return by_pairs ? kMost : std::clamp(kValues / in, kMostRows, kMost);
  }
};

// Rows of a chunk in float32, where it is that which is multiplied.
template <class X>
class Chunk {
 public:
  explicit Chunk(const Operands<X>& o) : o_(o) {
    if (o.needs_copies()) copies_ = at::empty({std::min(o.chunk(), o.rows), o.in}, at::kFloat);
  }

  void begin(int64_t first, int64_t count) {
    first_ = first;
    if (!copies_.defined()) return;
    float* to = copies_.mutable_data_ptr<float>();
    at::parallel_for(0, count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) copy(first_ + r, to + r * o_.in);
    });
  }
  const float* row(int64_t r) const {
    if constexpr (std::is_same_v<X, float>) {
      if (!copies_.defined()) return o_.row(r);
    }
    return copies_.const_data_ptr<float>() + (r - first_) * o_.in;
  }

 private:
  void copy(int64_t row, float* to) const {
    if (o_.gather)
      o_.gather(row, to);
    else
      widen_values(o_.row(row), o_.in, to);
  }

  const Operands<X>& o_;
  Tensor copies_;
  int64_t first_ = 0;
};

// One thread's products with one panel after the other, whose widened values are at most kDepth rows at once.
template <class X>
class Products {
 public:
  Products(const Operands<X>& o, const Chunk<X>& chunk) : o_(o), chunk_(chunk) {}

  void operator()(int64_t block, int64_t columns, int64_t row, int64_t count, float* sums) {
    if constexpr (std::is_same_v<X, BF16>) {
      if (o_.by_pairs)
        return multiply({count, columns, o_.in, o_.in, columns, kColumns}, o_.row(row), o_.template panel<BF16>(block),
                        sums, /*adds=*/false);
    }
    for (int64_t first = 0; first < o_.in; first += o_.depth()) {
      const int64_t depth = std::min(o_.depth(), o_.in - first);
      multiply({count, columns, depth, o_.in, columns, kColumns}, chunk_.row(row) + first,
               widened(block, columns, first, depth), sums, /*adds=*/first > 0);
    }
  }

 private:
  const float* widened(int64_t block, int64_t columns, int64_t first, int64_t depth) {
    const int64_t place = block * o_.in + first;
    if (place == place_) return wide_.data();
    wide_.resize(static_cast<std::size_t>(kDepth * kColumns));
    const auto widen_from = [&](const auto* panel) {
      widen_panel(panel + first * columns, depth / 2, columns, o_.places, wide_.data());
    };
    if (o_.packed.scalar_type() == at::kHalf)
      widen_from(o_.template panel<at::Half>(block));
    else
      widen_from(o_.template panel<BF16>(block));
    place_ = place;
    return wide_.data();
  }

  const Operands<X>& o_;
  const Chunk<X>& chunk_;
  std::vector<float> wide_;
  int64_t place_ = -1;  // of wide_ in the weight
};

// Worker(operands, chunk)(block, first row, rows), by as many threads as there are.
template <class Worker, class X, class... More>
void for_tasks(const Operands<X>& o, int64_t blocks, const More&... more) {
  const int64_t most = o.task_rows();
  Chunk<X> chunk(o);
  for (int64_t first = 0; first < o.rows; first += o.chunk()) {
    const int64_t count = std::min(o.chunk(), o.rows - first), parts = (count + most - 1) / most;
    chunk.begin(first, count);
    at::parallel_for(0, blocks * parts, 1, [&](int64_t begin, int64_t end) {
      Worker worker(o, chunk, more...);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t row = task % parts * most;
        worker(task / parts, first + row, std::min(most, count - row));
      }
      release_products();
    });
  }
}

template <class X>
class LinearWorker {
 public:
  LinearWorker(const Operands<X>& o, const Chunk<X>& chunk, const X* residual, X* y)
      : o_(o), products_(o, chunk), residual_(residual), y_(y) {}

  void operator()(int64_t block, int64_t row, int64_t count) {
    const int64_t columns = std::min(kColumns, o_.out - block * kColumns), at = row * o_.out + block * kColumns;
    const X* added = residual_ == nullptr ? nullptr : residual_ + at;
    for (int64_t r = 0; r < count; ++r) {
      fetch<kForWriting>(y_ + at + r * o_.out, columns);
      if (added != nullptr) fetch<kForReading>(added + r * o_.out, columns);
    }
    products_(block, columns, row, count, sums_);
    finish(sums_, count, columns, o_.bias_of(block), added, o_.out, y_ + at);
  }

 private:
  const Operands<X>& o_;
  Products<X> products_;
  const X* residual_;
  X* y_;
  alignas(64) float sums_[kMostRows * kColumns];
};

template <class X>
class GegluWorker {
 public:
  GegluWorker(const Operands<X>& o, const Chunk<X>& chunk, X* y) : o_(o), values_(o, chunk), gates_(o, chunk), y_(y) {}

  void operator()(int64_t block, int64_t row, int64_t count) {
    const int64_t width = o_.out / 2, gate = width / kColumns + block;
    X* to = y_ + row * width + block * kColumns;
    for (int64_t r = 0; r < count; ++r) fetch<kForWriting>(to + r * width, kColumns);
    values_(block, kColumns, row, count, value_);
    gates_(gate, kColumns, row, count, gate_);
    for (int64_t r = 0; r < count; ++r)
      finish_geglu(value_ + r * kColumns, gate_ + r * kColumns, o_.bias_of(block), o_.bias_of(gate), to + r * width);
  }

 private:
  const Operands<X>& o_;
  Products<X> values_, gates_;
  X* y_;
  alignas(64) float value_[kMostRows * kColumns], gate_[kMostRows * kColumns];
};

// Those of float32 that oneDNN would take a millisecond to plan, and ATen is as fast with (is_small() in packed.cpp).
constexpr int64_t kFewestOfFloat = 257;
constexpr int64_t kFewest = 16;

}  // namespace

bool can_panels(int64_t in, int64_t out, at::ScalarType dtype) {
  if (in % 2 != 0) return false;
  const int64_t fewer = std::min(in, out);
  if (dtype == at::kFloat) return has_avx512() && fewer >= kFewestOfFloat;
  const PairUnit unit = pair_unit();
  return dtype == at::kBFloat16 && (unit == PairUnit::kAvx512 || unit == PairUnit::kWidened) && fewer >= kFewest;
}

namespace {

// f(X()), with X the C++ type of dtype.
template <class F>
auto with_type(at::ScalarType dtype, const F& f) {
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "panels beside ", dtype);
  return dtype == at::kFloat ? f(float()) : f(BF16());
}

template <class X>
Operands<X> rows_of(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  TORCH_CHECK(x.size(-1) == packed.size(1), "linear of ", x.sizes(), " by ", packed.sizes());
  return Operands<X>(x.contiguous(), packed, bias, x.numel() / x.size(-1));
}

Tensor wide_as(const Tensor& x, int64_t width) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = width;
  return at::empty(shape, x.options());
}

template <class X>
void multiply_all(const Operands<X>& o, const Tensor& residual, Tensor& y) {
  const X* added = residual.defined() ? residual.const_data_ptr<X>() : nullptr;
  for_tasks<LinearWorker<X>>(o, (o.out + kColumns - 1) / kColumns, added, y.mutable_data_ptr<X>());
}

}  // namespace

Tensor panel_linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual) {
  Tensor y = wide_as(x, packed.size(0));
  with_type(x.scalar_type(), [&]<class X>(X) {
    multiply_all(rows_of<X>(x, packed, bias), residual.defined() ? residual.contiguous() : Tensor(), y);
  });
  return y;
}

bool can_panel_geglu(const Tensor& packed) { return packed.size(0) % (2 * kColumns) == 0; }

Tensor panel_geglu(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  const int64_t width = packed.size(0) / 2;
  Tensor y = wide_as(x, width);
  with_type(x.scalar_type(), [&]<class X>(X) {
    for_tasks<GegluWorker<X>>(rows_of<X>(x, packed, bias), width / kColumns, y.mutable_data_ptr<X>());
  });
  return y;
}

// ---- convolutions: a pixel of the result is a row, whose values are the pixels that the kernel sees
// -------------------

bool can_panel_convolution(at::IntArrayRef weight, at::ScalarType dtype) {
  return (dtype == at::kFloat || pair_unit() == PairUnit::kWidened) && 2 * weight[2] * weight[3] <= kDepth &&
         can_panels(weight[1] * weight[2] * weight[3], weight[0], dtype);
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
      widen_values(x_.const_data_ptr<X>() + ((picture * height + i) * width + j) * x_.size(1) + channel, count, to);
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
    o.places = patches.kernel * patches.kernel;
    o.gather = Gather<X>(o, patches);
    multiply_all(o, residual.defined() ? residual.contiguous(kLast) : Tensor(), y);
  });
  return y;
}

}  // namespace easel::cpu
