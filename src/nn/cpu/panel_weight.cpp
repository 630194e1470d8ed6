#include <ATen/Parallel.h>

#include <atomic>

#include "nn/cpu/amx_weight.h"
#include "nn/cpu/half_rows.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/panels.h"
#include "nn/cpu/products.h"
#include "nn/cpu/turn.h"

namespace easel::cpu {

namespace {

constexpr int64_t kColumnsAtOnce = 16;

PackedPanels pack_floats(const Tensor& weight) {
  const Tensor rows = weight.flatten(1).contiguous();
  const int64_t out = rows.size(0), in = rows.size(1);
  PackedPanels packed = {at::empty({out, in}, at::kFloat), at::isfinite(rows).all().item<bool>()};
  for (int64_t first = 0; first < out; first += kPanelColumns) {
    const int64_t columns = std::min(kPanelColumns, out - first);
    packed.weight.narrow(0, first, columns)
        .view({in / 2, columns, 2})
        .copy_(rows.narrow(0, first, columns).view({columns, in / 2, 2}).transpose(0, 1));
  }
  return packed;
}

}  // namespace

PackedPanels pack_panels(const Tensor& weight, at::ScalarType dtype) {
  if (dtype == at::kBFloat16 && pair_unit() == PairUnit::kAmx) return amx::pack_weight(weight);
  if (weight.scalar_type() == at::kFloat) return pack_floats(weight);
  const bool is_half = weight.scalar_type() == at::kHalf;
  const bool narrows = is_half && dtype == at::kBFloat16 && pair_unit() == PairUnit::kAvx512;
  const Tensor rows = weight.flatten(1).contiguous();
  const int64_t out = rows.size(0), in = rows.size(1);
  const auto* from = static_cast<const uint16_t*>(rows.const_data_ptr());
  const uint16_t exponent = is_half ? kHalfExponent : kBFloat16Exponent;
  Tensor packed = at::empty({out, in}, narrows ? at::kBFloat16 : weight.scalar_type());
  auto* to = static_cast<uint32_t*>(packed.mutable_data_ptr());
  std::atomic<bool> finite = true;
  at::parallel_for(0, (out + kPanelColumns - 1) / kPanelColumns, 1, [&](int64_t begin, int64_t end) {
    std::vector<uint16_t> narrowed(static_cast<std::size_t>(narrows ? kColumnsAtOnce * in : 0));
    for (int64_t first = begin * kPanelColumns; first < std::min(end * kPanelColumns, out); first += kColumnsAtOnce) {
      const int64_t panel = first / kPanelColumns * kPanelColumns, columns = std::min(kPanelColumns, out - panel),
                    count = std::min(kColumnsAtOnce, out - first);
      const uint16_t* few = from + first * in;
      // The first to read them, in their order.
      const bool are_good =
          narrows ? narrow_values(few, count * in, narrowed.data()) : are_finite(few, count * in, exponent);
      if (!are_good) finite = false;
      turn({narrows ? narrowed.data() : few, to + panel * in / 2 + first - panel, in / 2, count, columns});
    }
    finish_streams();
  });
  return {packed, finite};
}

}  // namespace easel::cpu
