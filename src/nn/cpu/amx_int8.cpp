#include "nn/cpu/amx_int8.h"

#include "easel/vector_loops.h"
#include "nn/cpu/amx_tasks.h"
#include "nn/cpu/products.h"
#include "nn/cpu/turn.h"

namespace easel::cpu::amx {
namespace {

constexpr int64_t kBytes = 2 * kSide;  // of a row's block

#define EASEL_FROM_BYTES(T)                                                                                 \
  EASEL_CLONES void from_bytes(const int32_t* sums, float scale, const float* scales, const float* offsets, \
                               const float* bias, const T* residual, T* y) {                                \
    for (int64_t i = 0; i < kSide; ++i) {                                                                   \
      const float sum = (static_cast<float>(sums[i]) - offsets[i]) * (scale * scales[i]) + bias[i];         \
      y[i] = narrow<T>(sum + (residual == nullptr ? 0.0f : widen(residual[i])));                            \
    }                                                                                                       \
  }
EASEL_FROM_BYTES(float)
EASEL_FROM_BYTES(BF16)
#undef EASEL_FROM_BYTES

template <class T>
struct FinishedBytes final : RowWork {
  const float *sums, *row_scales, *scales, *offsets, *bias;
  const T* residual;
  T* y;
  int64_t stride;
  void row(int64_t r) const override {
    // The tiles stored int32.
    from_bytes(reinterpret_cast<const int32_t*>(sums + r * kSide), row_scales[r], scales, offsets, bias,
               residual == nullptr ? nullptr : residual + r * stride, y + r * stride);
  }
};

template <class T>
void run(const RowsAndPanels& factors, const float* row_scales, const Int8Weight& w, const float* bias,
         const T* residual, T* y) {
  const int64_t out = w.scales.size(0);
  const float *scales = w.scales.const_data_ptr<float>(), *offsets = w.sums.const_data_ptr<float>();
  multiply<1, FinishedBytes<T>>(
      factors, out / kSide, 0,
      [&](FinishedBytes<T>& work, int64_t panel, int64_t row, const float* sums, const float*) {
        const int64_t column = panel * kSide, at = row * out + column;
        work.sums = sums;
        work.row_scales = row_scales + row;
        work.scales = scales + column;
        work.offsets = offsets + column;
        work.bias = bias + column;
        work.residual = residual == nullptr ? nullptr : residual + at;
        work.y = y + at;
        work.stride = out;
      });
}

}  // namespace

bool can_int8(int64_t in, int64_t out) {
  static const bool has_bytes = has_amx_int8() && pair_unit() == PairUnit::kAmx;
  return has_bytes && in % kBytes == 0 && out % kSide == 0;
}

Tensor pack_int8(const Tensor& values) {
  const int64_t out = values.size(0), in = values.size(1);
  const Tensor rows = values.contiguous();
  Tensor packed = at::empty({out * in}, at::kChar);
  const auto* from = static_cast<const uint16_t*>(rows.const_data_ptr());
  auto* to = static_cast<uint32_t*>(packed.mutable_data_ptr());
  constexpr int64_t kQuads = kTileRows;  // of a block
  at::parallel_for(0, out / kTileRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t half = begin; half < end; ++half) {
      uint32_t* tile = to + half / 2 * kSide * in / 4 + half % 2 * kTileRows * kQuads;
      for (int64_t block = 0; block < in / kBytes; ++block, tile += 2 * kTileRows * kQuads)
        turn({.from = from + (half * kTileRows * in + block * kBytes) / 2,
              .to = tile,
              .pairs = kQuads,
              .columns = kTileRows,
              .stride = kTileRows,
              .pitch = in / 4});
    }
    finish_streams();
  });
  return packed;
}

void int8_linear(const Tensor& x, const Tensor& row_scales, const Int8Weight& weight, const Tensor& bias,
                 const Tensor& residual, Tensor& y) {
  const RowsAndPanels factors{static_cast<const BF16*>(x.const_data_ptr()),
                              static_cast<const BF16*>(weight.values.const_data_ptr()), x.size(0), x.size(1) / 2,
                              /*has_bytes=*/true};
  const auto run_as = [&]<class T>(T) {
    run<T>(factors, row_scales.const_data_ptr<float>(), weight, bias.const_data_ptr<float>(),
           residual.defined() ? residual.const_data_ptr<T>() : nullptr, y.mutable_data_ptr<T>());
  };
  if (y.scalar_type() == at::kFloat)
    run_as(float());
  else
    run_as(BF16());
}

}  // namespace easel::cpu::amx
