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

// Sums of the products that are not finished yet, beside those that are being made.
template <int kPanels>
struct Room {
  alignas(64) float sums[2][kPanels][kGroupRows * kSide];
};

RowsToDo part_of(const RowsToDo& rows, int64_t part, int64_t parts) {
  return {rows.work, rows.end * part / parts, rows.end * (part + 1) / parts};
}

// finish(work, panel, first row, sums of the panel, sums of the one `apart` behind it): what is to be done with them.
// Of panels 0 … count − 1; with kPanels 1 there is but the one.
template <int kPanels, class Work, class Finish>
void multiply(const Operands& o, int64_t count, int64_t apart, const Finish& finish) {
  const Division division(o);
  at::parallel_for(0, division.chunks * division.parts, 1, [&](int64_t begin, int64_t end) {
    const Tiles tiles;
    Products products;
    Room<kPanels> room;
    Work works[2];
    RowsToDo before;
    int64_t turn = 0;
    auto* packed = reinterpret_cast<BF16*>(room_for(static_cast<std::size_t>(2 * division.rows * o.in)));
    const Left left{packed, o.in / kSide, kStep, kSide * o.in};
    for (int64_t task = begin; task < end; ++task) {
      const int64_t chunk = task / division.parts, part = task % division.parts, first = chunk * division.rows;
      const int64_t rows = std::min(division.rows, o.rows - first);
      if (task == begin || part == 0) pack_rows(o.row(first), rows, o.in, packed);
      for (int64_t panel = count * part / division.parts; panel < count * (part + 1) / division.parts; ++panel) {
        for (int64_t row = 0; row < rows; row += kGroupRows, turn = 1 - turn) {
          const int64_t few = std::min(kGroupRows, rows - row), whole = (few + kTileRows - 1) / kTileRows;
          auto& sums = room.sums[turn];
          for (int64_t i = 0; i < kPanels; ++i)
            products.multiply(left, row, whole, o.panel(panel + i * apart), sums[i], part_of(before, i, kPanels));
          finish(works[turn], panel, first + row, sums[0], sums[kPanels - 1]);
          before = {&works[turn], 0, few};
        }
      }
    }
    products.flush();
    before();
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
  multiply<1, FinishedRows>(o, o.out / kSide, 0,
                            [&](FinishedRows& work, int64_t panel, int64_t row, const float* sums, const float*) {
                              const int64_t at = row * o.out + panel * kSide;
                              work.sums = sums;
                              work.bias = o.bias_of(panel);
                              work.residual = add == nullptr ? nullptr : add + at;
                              work.y = to + at;
                              work.stride = o.out;
                            });
  return y;
}

Tensor geglu(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  const Operands o(x, packed, bias);
  const int64_t width = o.out / 2, panels = width / kSide;
  Tensor y = wide_as(x, width);
  auto* to = y.mutable_data_ptr<BF16>();
  multiply<2, FinishedGeglu>(
      o, panels, panels, [&](FinishedGeglu& work, int64_t panel, int64_t row, const float* values, const float* gates) {
        work.values = values;
        work.gates = gates;
        work.value_bias = o.bias_of(panel);
        work.gate_bias = o.bias_of(panel + panels);
        work.y = to + row * width + panel * kSide;
        work.stride = width;
      });
  return y;
}

}  // namespace easel::cpu::amx
