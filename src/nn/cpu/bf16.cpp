#include "nn/cpu/bf16.h"

#include <ATen/Parallel.h>

#include <functional>

#include "easel/vector_loops.h"
#include "nn/cpu/bf16_finish.h"
#include "nn/cpu/products.h"

namespace easel::cpu {
namespace {

using BF16 = at::BFloat16;

constexpr int64_t kColumns = kBf16Columns;
constexpr int64_t kRows = 24;       // of a task, whose sums stay in the first-level cache
constexpr int64_t kWideRows = 288;  // the same of widened values, for which a panel comes from the second
constexpr int64_t kDepth = 1024;    // of a panel's widened values

// A block's part of a row, 64 values of which lie a row apart from the next, while the products before them last.
enum Purpose { kForReading, kForWriting };
template <Purpose purpose>
void fetch(const BF16* row, int64_t columns) {
  constexpr int64_t kLine = 32;
  for (int64_t first = 0; first < columns; first += kLine) __builtin_prefetch(row + first, purpose);
}

EASEL_CLONES void widen_values(const BF16* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

// [pairs, columns, 2] → [2 · pairs, columns].
EASEL_CLONES void widen_panel(const BF16* from, int64_t pairs, int64_t columns, float* to) {
  for (int64_t p = 0; p < pairs; ++p) {
    const BF16* pair = from + 2 * p * columns;
    float *even = to + 2 * p * columns, *odd = even + columns;
    for (int64_t c = 0; c < columns; ++c) {
      even[c] = widen(pair[2 * c]);
      odd[c] = widen(pair[2 * c + 1]);
    }
  }
}

// The rows of a product as they lie, or the patches of a picture that a convolution's kernel sees, which are rows once
// they are gathered (widened).
struct Operands {
  Tensor x, bias;
  const BF16* weight;
  int64_t rows, in, out;
  std::function<void(int64_t row, float* to)> widen_row;

  Operands(const Tensor& x_, const Tensor& packed, const Tensor& bias_, int64_t rows_)
      : x(x_),
        bias(bias_.defined() ? bias_.to(at::kFloat).contiguous() : at::zeros({packed.size(0)}, at::kFloat)),
        weight(packed.const_data_ptr<BF16>()),
        rows(rows_),
        in(packed.size(1)),
        out(packed.size(0)),
        widen_row([this](int64_t r, float* to) { widen_values(row(r), in, to); }) {}
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  const BF16* row(int64_t r) const { return x.const_data_ptr<BF16>() + r * in; }
  const BF16* panel(int64_t block) const { return weight + block * kColumns * in; }
  const float* bias_of(int64_t block) const { return bias.const_data_ptr<float>() + block * kColumns; }
  // Rows that every panel passes over, widened in the third-level cache.
  int64_t chunk() const {
    constexpr int64_t kMost = 1024, kValues = int64_t{3} << 20;
    return pair_unit() == PairUnit::kWidened ? std::clamp(kValues / in, kWideRows, kMost) : kMost;
  }
};

// Rows of a chunk, widened where the processor multiplies no bfloat16.
class Chunk {
 public:
  explicit Chunk(const Operands& o) : o_(o) {
    if (pair_unit() == PairUnit::kWidened) wide_ = at::empty({std::min(o.chunk(), o.rows), o.in}, at::kFloat);
  }

  void begin(int64_t first, int64_t count) {
    first_ = first;
    if (!wide_.defined()) return;
    float* to = wide_.mutable_data_ptr<float>();
    at::parallel_for(0, count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) o_.widen_row(first_ + r, to + r * o_.in);
    });
  }
  const float* row(int64_t r) const { return wide_.const_data_ptr<float>() + (r - first_) * o_.in; }

 private:
  const Operands& o_;
  Tensor wide_;
  int64_t first_ = 0;
};

// One thread's products with one panel after the other, whose widened values are at most kDepth rows at once.
class Products {
 public:
  Products(const Operands& o, const Chunk& chunk) : o_(o), chunk_(chunk) {}

  void operator()(int64_t block, int64_t columns, int64_t row, int64_t count, float* sums) {
    if (pair_unit() != PairUnit::kWidened)
      return multiply({count, columns, o_.in, o_.in, columns, kColumns}, o_.row(row), o_.panel(block), sums,
                      /*adds=*/false);
    for (int64_t first = 0; first < o_.in; first += kDepth) {
      const int64_t depth = std::min(kDepth, o_.in - first);
      multiply({count, columns, depth, o_.in, columns, kColumns}, chunk_.row(row) + first,
               widened(block, columns, first, depth), sums, /*adds=*/first > 0);
    }
  }

 private:
  const float* widened(int64_t block, int64_t columns, int64_t first, int64_t depth) {
    const int64_t place = block * o_.in + first;
    if (place == place_) return wide_.data();
    wide_.resize(static_cast<std::size_t>(kDepth * kColumns));
    widen_panel(o_.panel(block) + first * columns, depth / 2, columns, wide_.data());
    place_ = place;
    return wide_.data();
  }

  const Operands& o_;
  const Chunk& chunk_;
  std::vector<float> wide_;
  int64_t place_ = -1;  // of wide_ in the weight
};

// Worker(operands, chunk)(block, first row, rows), by as many threads as there are.
template <class Worker, class... More>
void for_tasks(const Operands& o, int64_t blocks, const More&... more) {
  const int64_t most = pair_unit() == PairUnit::kWidened ? kWideRows : kRows;
  Chunk chunk(o);
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

class LinearWorker {
 public:
  LinearWorker(const Operands& o, const Chunk& chunk, const BF16* residual, BF16* y)
      : o_(o), products_(o, chunk), residual_(residual), y_(y) {}

  void operator()(int64_t block, int64_t row, int64_t count) {
    const int64_t columns = std::min(kColumns, o_.out - block * kColumns), at = row * o_.out + block * kColumns;
    const BF16* added = residual_ == nullptr ? nullptr : residual_ + at;
    for (int64_t r = 0; r < count; ++r) {
      fetch<kForWriting>(y_ + at + r * o_.out, columns);
      if (added != nullptr) fetch<kForReading>(added + r * o_.out, columns);
    }
    products_(block, columns, row, count, sums_);
    finish(sums_, count, columns, o_.bias_of(block), added, o_.out, y_ + at);
  }

 private:
  const Operands& o_;
  Products products_;
  const BF16* residual_;
  BF16* y_;
  alignas(64) float sums_[kWideRows * kColumns];
};

class GegluWorker {
 public:
  GegluWorker(const Operands& o, const Chunk& chunk, BF16* y) : o_(o), values_(o, chunk), gates_(o, chunk), y_(y) {}

  void operator()(int64_t block, int64_t row, int64_t count) {
    const int64_t width = o_.out / 2, gate = width / kColumns + block;
    BF16* to = y_ + row * width + block * kColumns;
    for (int64_t r = 0; r < count; ++r) fetch<kForWriting>(to + r * width, kColumns);
    values_(block, kColumns, row, count, value_);
    gates_(gate, kColumns, row, count, gate_);
    for (int64_t r = 0; r < count; ++r)
      finish_geglu(value_ + r * kColumns, gate_ + r * kColumns, o_.bias_of(block), o_.bias_of(gate), to + r * width);
  }

 private:
  const Operands& o_;
  Products values_, gates_;
  BF16* y_;
  alignas(64) float value_[kWideRows * kColumns], gate_[kWideRows * kColumns];
};

}  // namespace

bool can_bf16(int64_t in, int64_t out) {
  constexpr int64_t kFewest = 16;
  const PairUnit unit = pair_unit();
  const bool has_unit = unit == PairUnit::kAvx512 || unit == PairUnit::kWidened;
  return has_unit && in % 2 == 0 && std::min(in, out) >= kFewest;
}

namespace {

Operands rows_of(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  TORCH_CHECK(x.size(-1) == packed.size(1), "linear of ", x.sizes(), " by ", packed.sizes());
  return Operands(x.contiguous(), packed, bias, x.numel() / x.size(-1));
}

Tensor wide_as(const Tensor& x, int64_t width) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = width;
  return at::empty(shape, x.options());
}

const BF16* values_of(const Tensor& residual) { return residual.defined() ? residual.const_data_ptr<BF16>() : nullptr; }

void multiply_all(const Operands& o, const Tensor& residual, Tensor& y) {
  for_tasks<LinearWorker>(o, (o.out + kColumns - 1) / kColumns, values_of(residual), y.mutable_data_ptr<BF16>());
}

}  // namespace

Tensor bf16_linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual) {
  Tensor y = wide_as(x, packed.size(0));
  multiply_all(rows_of(x, packed, bias), residual.defined() ? residual.contiguous() : Tensor(), y);
  return y;
}

bool can_bf16_geglu(const Tensor& packed) { return packed.size(0) % (2 * kColumns) == 0; }

Tensor bf16_geglu(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  const int64_t width = packed.size(0) / 2;
  Tensor y = wide_as(x, width);
  for_tasks<GegluWorker>(rows_of(x, packed, bias), width / kColumns, y.mutable_data_ptr<BF16>());
  return y;
}

// ---- convolutions: a pixel of the result is a row, whose values are the pixels that the kernel sees
// -------------------

bool can_bf16_convolution(at::IntArrayRef weight) {
  return pair_unit() == PairUnit::kWidened && can_bf16(weight[1] * weight[2] * weight[3], weight[0]);
}

Tensor pack_bf16_convolution(const Tensor& weight) { return pack_bf16(weight.permute({0, 2, 3, 1}).flatten(1)); }

Tensor bf16_convolution(const Tensor& x, const Tensor& packed, const Tensor& bias, const Patches& patches,
                        const Tensor& residual) {
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  const int64_t height = patches.of(x.size(2)), width = patches.of(x.size(3)), channels = x.size(1);
  Tensor y = at::empty({x.size(0), packed.size(0), height, width}, x.options().memory_format(kLast));
  Operands o(x.contiguous(kLast), packed, bias, x.size(0) * height * width);
  const BF16* pixels = o.x.const_data_ptr<BF16>();
  o.widen_row = [&, pixels](int64_t row, float* to) {
    const int64_t top = row / width % height * patches.stride - patches.padding,
                  left = row % width * patches.stride - patches.padding;
    for (int64_t i = top; i < top + patches.kernel; ++i) {
      for (int64_t j = left; j < left + patches.kernel; ++j, to += channels) {
        const bool is_inside = i >= 0 && i < x.size(2) && j >= 0 && j < x.size(3);
        if (is_inside)
          widen_values(pixels + ((row / (height * width) * x.size(2) + i) * x.size(3) + j) * channels, channels, to);
        else
          std::fill_n(to, channels, 0.0f);
      }
    }
  };
  multiply_all(o, residual.defined() ? residual.contiguous(kLast) : Tensor(), y);
  return y;
}

}  // namespace easel::cpu
