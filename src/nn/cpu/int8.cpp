#include "nn/cpu/int8.h"

#include <ATen/Parallel.h>

#include "easel/vector_loops.h"
#include "nn/cpu/amx_int8.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/linear_parts.h"
#include "nn/cpu/products.h"

namespace easel::cpu {
namespace {

constexpr int64_t kColumns = 64, kRows = 96, kQuad = 4;

// ---- inner loops --------------------------------------------------------------------------------------------------

// By its bits, among which those of NaN are the largest.
#define EASEL_LARGEST_SIZE(T)                                                          \
  EASEL_CLONES float largest_size(const T* x, int64_t count) {                         \
    uint32_t largest = 0;                                                              \
    for (int64_t i = 0; i < count; ++i)                                                \
      largest = std::max(largest, std::bit_cast<uint32_t>(widen(x[i])) & 0x7FFFFFFFu); \
    return std::bit_cast<float>(largest);                                              \
  }
EASEL_LARGEST_SIZE(float)
EASEL_LARGEST_SIZE(at::BFloat16)
#undef EASEL_LARGEST_SIZE

// To the nearest of −127 … 127, stored from 1 to 255.
#define EASEL_TO_BYTES(T)                                                                  \
  EASEL_CLONES void to_bytes(const T* x, int64_t count, float factor, uint8_t* out) {      \
    for (int64_t i = 0; i < count; ++i) {                                                  \
      const float shifted = widen(x[i]) * factor + (12582912.0f + 128.0f); /* 1.5·2^23 */ \
      out[i] = static_cast<uint8_t>(std::bit_cast<uint32_t>(shifted));                     \
    }                                                                                      \
  }
EASEL_TO_BYTES(float)
EASEL_TO_BYTES(at::BFloat16)
#undef EASEL_TO_BYTES

#define EASEL_FROM_SUMS(T)                                                                            \
  EASEL_CLONES void from_sums(const int32_t* sums, int64_t count, float scale, const float* scales,   \
                              const float* offsets, const float* bias, const T* residual, T* y) {     \
    if (residual == nullptr) {                                                                        \
      for (int64_t i = 0; i < count; ++i)                                                             \
        y[i] = narrow<T>((static_cast<float>(sums[i]) - offsets[i]) * (scale * scales[i]) + bias[i]); \
    } else {                                                                                          \
      for (int64_t i = 0; i < count; ++i)                                                             \
        y[i] = narrow<T>((static_cast<float>(sums[i]) - offsets[i]) * (scale * scales[i]) + bias[i] + \
                         widen(residual[i]));                                                         \
    }                                                                                                 \
  }
EASEL_FROM_SUMS(float)
EASEL_FROM_SUMS(at::BFloat16)
#undef EASEL_FROM_SUMS

// ---- the product --------------------------------------------------------------------------------------------------

struct Quantized {
  Tensor bytes;   // uint8 [rows, in]
  Tensor scales;  // float32 [rows]
};

template <class T>
Quantized quantized(const T* x, int64_t rows, int64_t in) {
  Quantized q = {at::empty({rows, in}, at::kByte), at::empty({rows}, at::kFloat)};
  auto* bytes = q.bytes.mutable_data_ptr<uint8_t>();
  auto* scales = q.scales.mutable_data_ptr<float>();
  at::parallel_for(0, rows, std::max<int64_t>(1, (1 << 15) / in), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float largest = largest_size(x + r * in, in);
      to_bytes(x + r * in, in, largest > 0 ? 127 / largest : 0, bytes + r * in);
      scales[r] = largest / 127;
    }
  });
  return q;
}

template <class T>
void run(const Quantized& q, const Int8Weight& w, const float* bias, const T* residual, T* y) {
  const int64_t rows = q.bytes.size(0), in = q.bytes.size(1), out = w.scales.size(0);
  const int64_t row_blocks = (rows + kRows - 1) / kRows, column_blocks = (out + kColumns - 1) / kColumns;
  const auto* bytes = q.bytes.const_data_ptr<uint8_t>();
  const auto* row_scales = q.scales.const_data_ptr<float>();
  const auto* values = w.values.const_data_ptr<int8_t>();
  const float *scales = w.scales.const_data_ptr<float>(), *offsets = w.sums.const_data_ptr<float>();
  at::parallel_for(0, row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> sums(static_cast<std::size_t>(kRows * kColumns));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % row_blocks * kRows, column = task / row_blocks * kColumns;
      const int64_t count = std::min(kRows, rows - first), columns = std::min(kColumns, out - column);
      multiply({count, columns, in, in, columns, columns}, bytes + first * in, values + column * in, sums.data());
      for (int64_t r = 0; r < count; ++r) {
        const int64_t at = (first + r) * out + column;
        from_sums(sums.data() + r * columns, columns, row_scales[first + r], scales + column, offsets + column,
                  bias + column, residual == nullptr ? nullptr : residual + at, y + at);
      }
    }
    release_products();
  });
}

template <class T>
Tensor linear(const Tensor& x, const Int8Weight& weight, const Tensor& bias, const Tensor& residual) {
  const int64_t in = x.size(-1), out = weight.scales.size(0);
  Tensor y = wide_as(x, out);
  const Tensor rows = x.contiguous(), more = residual.defined() ? residual.contiguous() : Tensor();
  const Tensor added = bias_in_float(bias, out);
  const Quantized q = quantized(rows.const_data_ptr<T>(), x.numel() / in, in);
  if (amx::can_int8(in, out)) {
    amx::int8_linear(q.bytes, q.scales, weight, added, more, y);
    return y;
  }
  run<T>(q, weight, added.const_data_ptr<float>(), more.defined() ? more.const_data_ptr<T>() : nullptr,
         y.mutable_data_ptr<T>());
  return y;
}

}  // namespace

bool can_int8(int64_t in, int64_t out) {
  constexpr int64_t kFewest = 64;
  return has_quads() && std::min(in, out) >= kFewest && in % kQuad == 0;
}

Int8Weight pack_int8(const Tensor& weight) {
  const int64_t out = weight.size(0), in = weight.size(1);
  const Tensor wide = weight.to(at::kFloat);
  const Tensor scales = (wide.abs().amax(1) / 127).clamp_min(1e-30);
  const Tensor values = at::round(wide / scales.unsqueeze(1)).to(at::kChar);
  if (amx::can_int8(in, out)) return {amx::pack_int8(values), scales, values.sum(1, false, at::kFloat) * 128};
  Int8Weight packed = {at::empty({out * in}, at::kChar), scales, values.sum(1, false, at::kFloat) * 128};
  for (int64_t column = 0; column < out; column += kColumns) {
    const int64_t columns = std::min(kColumns, out - column);
    packed.values.narrow(0, column * in, columns * in)
        .view({in / kQuad, columns, kQuad})
        .copy_(values.narrow(0, column, columns).view({columns, in / kQuad, kQuad}).transpose(0, 1));
  }
  return packed;
}

Tensor int8_linear(const Tensor& x, const Int8Weight& weight, const Tensor& bias, const Tensor& residual) {
  return x.scalar_type() == at::kFloat ? linear<float>(x, weight, bias, residual)
                                       : linear<at::BFloat16>(x, weight, bias, residual);
}

}  // namespace easel::cpu
