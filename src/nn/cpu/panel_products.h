// What linears and convolutions by panels have in common (panels.h).
#pragma once

#include <ATen/Parallel.h>

#include <functional>
#include <memory>

#include "easel/vector_loops.h"
#include "nn/cpu/half_rows.h"
#include "nn/cpu/linear_parts.h"
#include "nn/cpu/panel_finish.h"
#include "nn/cpu/panels.h"
#include "nn/cpu/products.h"

namespace easel::cpu::panels {

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

// [pairs, columns, 2] → [2 · pairs, columns], in runs of columns. Of a convolution's `places` neighbours belong to one
// channel: they go where a patch has that channel, among those of one place.
template <class W>
void widen_panel(const W* from, int64_t pairs, int64_t columns, int64_t places, float* to) {
  const int64_t width = run_columns(), channels = 2 * pairs / places;
  int64_t place = 0, channel = 0;  // counted: divisions would take longer than the widening
  const auto next_row = [&] {
    float* row = to + (place * channels + channel) * width;
    if (++place == places) place = 0, ++channel;
    return row;
  };
  for (int64_t p = 0; p < pairs; ++p) {
    float *first = next_row(), *second = next_row();
    for (int64_t run = 0; run < columns; run += width) {
      const int64_t at = 2 * pairs * run;
      widen_pairs(from + 2 * (p * columns + run), std::min(width, columns - run), first + at, second + at);
    }
  }
}

inline bool multiplies_pairs(at::ScalarType x, at::ScalarType weight) {
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
        bias(bias_in_float(bias_, packed.size(0))),
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
      widen_row(o_.row(row), o_.in, to);
  }

  const Operands<X>& o_;
  Tensor copies_;
  int64_t first_ = 0;
};

struct alignas(64) PanelRoom {
  float values[kDepth * kColumns];
};

// One thread's, kept from call to call: the first touch of fresh memory would take as long as widening into it.
inline PanelRoom& panel_room(std::size_t which) {
  thread_local std::unique_ptr<PanelRoom> rooms[2];
  if (!rooms[which]) rooms[which] = std::make_unique_for_overwrite<PanelRoom>();
  return *rooms[which];
}

// One thread's products with one panel after the other, whose widened values are at most kDepth rows at once.
template <class X>
class Products {
 public:
  Products(const Operands<X>& o, const Chunk<X>& chunk, std::size_t room = 0)
      : o_(o), chunk_(chunk), wide_(panel_room(room).values) {}

  void operator()(int64_t block, int64_t columns, int64_t row, int64_t count, float* sums) {
    if constexpr (std::is_same_v<X, BF16>) {
      if (o_.by_pairs)
        return multiply({count, columns, o_.in, o_.in, columns, kColumns}, o_.row(row), o_.template panel<BF16>(block),
                        sums, /*adds=*/false);
    }
    for (int64_t first = 0; first < o_.in; first += o_.depth()) {
      const int64_t depth = std::min(o_.depth(), o_.in - first);
      const ProductSizes sizes{count, columns, depth, o_.in, run_columns(), kColumns, depth * run_columns()};
      multiply(sizes, chunk_.row(row) + first, widened(block, columns, first, depth), sums, /*adds=*/first > 0);
    }
  }

 private:
  const float* widened(int64_t block, int64_t columns, int64_t first, int64_t depth) {
    const int64_t place = block * o_.in + first;
    if (place == place_) return wide_;
    with_kept_type(o_.packed.scalar_type(), [&]<class W>(W) {
      widen_panel(o_.template panel<W>(block) + first * columns, depth / 2, columns, o_.places, wide_);
    });
    place_ = place;
    return wide_;
  }

  const Operands<X>& o_;
  const Chunk<X>& chunk_;
  float* wide_;
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

// f(X()), with X the C++ type of dtype.
template <class F>
auto with_type(at::ScalarType dtype, const F& f) {
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "panels beside ", dtype);
  return dtype == at::kFloat ? f(float()) : f(BF16());
}

template <class X>
void multiply_all(const Operands<X>& o, const Tensor& residual, Tensor& y) {
  const X* added = residual.defined() ? residual.const_data_ptr<X>() : nullptr;
  for_tasks<LinearWorker<X>>(o, (o.out + kColumns - 1) / kColumns, added, y.mutable_data_ptr<X>());
}

}  // namespace easel::cpu::panels
