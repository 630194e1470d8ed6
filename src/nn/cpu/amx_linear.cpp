#include "nn/cpu/amx_linear.h"

#include "nn/cpu/amx_tasks.h"
#include "nn/cpu/linear_parts.h"

namespace easel::cpu::amx {
namespace {

struct Operands {
  const Tensor x, packed, bias;
  const int64_t rows, in, out;
  Operands(const Tensor& x_, const Tensor& packed_, const Tensor& bias_)
      : x(x_.contiguous()),
        packed(packed_),
        bias(bias_in_float(bias_, packed.size(0))),
        rows(x.numel() / x.size(-1)),
        in(packed.size(1)),
        out(packed.size(0)) {
    TORCH_CHECK(x.size(-1) == in, "linear of ", x.sizes(), " by ", packed.sizes());
  }
  RowsAndPanels factors() const { return {x.const_data_ptr<BF16>(), packed.const_data_ptr<BF16>(), rows, in}; }
  const float* bias_of(int64_t panel) const { return bias.const_data_ptr<float>() + panel * kSide; }
};

}  // namespace

Tensor linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual) {
  const Operands o(x, packed, bias);
  Tensor y = wide_as(x, o.out);
  const Tensor added = residual.defined() ? residual.contiguous() : Tensor();
  const BF16* add = added.defined() ? added.const_data_ptr<BF16>() : nullptr;
  auto* to = y.mutable_data_ptr<BF16>();
  multiply<1, FinishedRows>(o.factors(), o.out / kSide, 0,
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
      o.factors(), panels, panels,
      [&](FinishedGeglu& work, int64_t panel, int64_t row, const float* values, const float* gates) {
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
