#include "nn/cpu/panels.h"

#include "nn/cpu/amx_linear.h"
#include "nn/cpu/amx_weight.h"
#include "nn/cpu/linear_parts.h"
#include "nn/cpu/panel_products.h"

namespace easel::cpu {

using namespace panels;

namespace {

template <class X>
class GegluWorker {
 public:
  GegluWorker(const Operands<X>& o, const Chunk<X>& chunk, X* y)
      : o_(o), values_(o, chunk, 0), gates_(o, chunk, 1), y_(y) {}

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

}  // namespace

bool can_panels(int64_t in, int64_t out, at::ScalarType dtype) {
  if (in % 2 != 0) return false;
  constexpr int64_t kFewest = 16;
  const int64_t fewer = std::min(in, out);
  if (dtype == at::kFloat) return has_float_products() && fewer > (has_wide_runs() ? kMostOfSmall : kFewest);
  const PairUnit unit = pair_unit();
  if (dtype == at::kBFloat16 && unit == PairUnit::kAmx) return amx::can_pack(in, out);
  return dtype == at::kBFloat16 && (unit == PairUnit::kAvx512 || unit == PairUnit::kWidened) && fewer >= kFewest;
}

namespace {

template <class X>
Operands<X> rows_of(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  TORCH_CHECK(x.size(-1) == packed.size(1), "linear of ", x.sizes(), " by ", packed.sizes());
  return Operands<X>(x.contiguous(), packed, bias, x.numel() / x.size(-1));
}

bool is_by_tiles(const Tensor& x) { return x.scalar_type() == at::kBFloat16 && pair_unit() == PairUnit::kAmx; }

}  // namespace

Tensor panel_linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual) {
  if (is_by_tiles(x)) return amx::linear(x, packed, bias, residual);
  Tensor y = wide_as(x, packed.size(0));
  with_type(x.scalar_type(), [&]<class X>(X) {
    multiply_all(rows_of<X>(x, packed, bias), residual.defined() ? residual.contiguous() : Tensor(), y);
  });
  return y;
}

bool can_panel_geglu(const Tensor& packed) { return packed.size(0) % (2 * kColumns) == 0; }

Tensor panel_geglu(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  if (is_by_tiles(x)) return amx::geglu(x, packed, bias);
  const int64_t width = packed.size(0) / 2;
  Tensor y = wide_as(x, width);
  with_type(x.scalar_type(), [&]<class X>(X) {
    for_tasks<GegluWorker<X>>(rows_of<X>(x, packed, bias), width / kColumns, y.mutable_data_ptr<X>());
  });
  return y;
}

}  // namespace easel::cpu
