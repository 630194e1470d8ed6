#include "nn/cpu/amx_linear.h"

#include <ATen/Parallel.h>

#include "nn/cpu/amx_rows.h"

namespace easel::cpu::amx {
namespace {

struct Operands {
  const Tensor x, packed, bias;
  const int64_t rows, in, out;
  Operands(const Tensor& x_, const Tensor& packed_, const Tensor& bias_)
      : x(x_.contiguous()),
        packed(packed_),
        bias(bias_.defined() ? bias_.to(at::kFloat).contiguous() : at::zeros({packed.size(0)}, at::kFloat)),
        rows(x.numel() / x.size(-1)),
        in(packed.size(1)),
        out(packed.size(0)) {
    TORCH_CHECK(x.size(-1) == in, "linear of ", x.sizes(), " by ", packed.sizes());
  }
  const BF16* row(int64_t r) const { return x.const_data_ptr<BF16>() + r * in; }
  const BF16* panel(int64_t p) const { return packed.const_data_ptr<BF16>() + p * kSide * in; }
  const float* bias_of(int64_t panel) const { return bias.const_data_ptr<float>() + panel * kSide; }
};

// Rows that are brought together at once, so that they stay in the second-level cache while all panels pass by, and
// parts of the panels, so that every thread has something to do.
struct Division {
  int64_t rows, chunks, parts;
  Division(const Operands& o) {
    constexpr int64_t kBytes = 640 << 10, kFewest = 128, kMost = 1024;
    const int64_t threads = at::get_num_threads();
    const int64_t most = std::clamp(kBytes / (2 * o.in) / kSide * kSide, kFewest, kMost);
    const auto over = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
    chunks = over(o.rows, most);
    if (o.rows >= threads * kFewest) chunks = over(chunks, threads) * threads;
    rows = over(over(o.rows, chunks), kSide) * kSide;
    chunks = over(o.rows, rows);
    parts = over(threads, chunks);
  }
};

// finish(panel, first row, rows, sums of the panel, sums of the one `apart` behind it) of panels 0 … count − 1. Where
// apart is 0 there is but the one.
template <class Finish>
void multiply(const Operands& o, int64_t count, int64_t apart, const Finish& finish) {
  const Division division(o);
  at::parallel_for(0, division.chunks * division.parts, 1, [&](int64_t begin, int64_t end) {
    const Tiles tiles;
    alignas(64) float sums[2][kGroupTiles * kTileRows * kSide];
    auto* packed = reinterpret_cast<BF16*>(room_for(static_cast<std::size_t>(2 * division.rows * o.in)));
    const Left left{packed, o.in / kSide, kStep, kSide * o.in};
    for (int64_t task = begin; task < end; ++task) {
      const int64_t chunk = task / division.parts, part = task % division.parts, first = chunk * division.rows;
      const int64_t rows = std::min(division.rows, o.rows - first);
      if (task == begin || part == 0) pack_rows(o.row(first), rows, o.in, packed);
      for (int64_t panel = count * part / division.parts; panel < count * (part + 1) / division.parts; ++panel) {
        for (int64_t row = 0; row < rows; row += kGroupTiles * kTileRows) {
          const int64_t few = std::min(kGroupTiles * kTileRows, rows - row), whole = (few + kTileRows - 1) / kTileRows;
          multiply_group(left, row, whole, o.panel(panel), sums[0]);
          if (apart > 0) multiply_group(left, row, whole, o.panel(panel + apart), sums[1]);
          finish(panel, first + row, few, sums[0], sums[1]);
        }
      }
    }
  });
}

Tensor wide_as(const Tensor& x, int64_t width) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = width;
  return at::empty(shape, x.options());
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual) {
  const Operands o(x, packed, bias);
  Tensor y = wide_as(x, o.out);
  const Tensor added = residual.defined() ? residual.contiguous() : Tensor();
  const BF16* add = added.defined() ? added.const_data_ptr<BF16>() : nullptr;
  auto* to = y.mutable_data_ptr<BF16>();
  multiply(o, o.out / kSide, 0, [&](int64_t panel, int64_t row, int64_t rows, const float* sums, const float*) {
    const int64_t at = row * o.out + panel * kSide;
    finish_rows(sums, rows, o.bias_of(panel), add == nullptr ? nullptr : add + at, o.out, to + at);
  });
  return y;
}

Tensor geglu(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  const Operands o(x, packed, bias);
  const int64_t width = o.out / 2, panels = width / kSide;
  Tensor y = wide_as(x, width);
  auto* to = y.mutable_data_ptr<BF16>();
  multiply(o, panels, panels, [&](int64_t panel, int64_t row, int64_t rows, const float* value, const float* gate) {
    finish_geglu(value, gate, rows, o.bias_of(panel), o.bias_of(panel + panels), width,
                 to + row * width + panel * kSide);
  });
  return y;
}

}  // namespace easel::cpu::amx
