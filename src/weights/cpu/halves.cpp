#include "weights/cpu/halves.h"

#include <ATen/Parallel.h>

#include "easel/vector_loops.h"

namespace easel::cpu {
namespace {

// A half's exponent has 5 bits to float32's 8: moved into place it is too small by 2^112, subnormal numbers included.
EASEL_INLINE float widen_half(uint16_t half) {
  const uint32_t size = static_cast<uint32_t>(half & 0x7FFF) << 13, sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const auto finite = std::bit_cast<uint32_t>(std::bit_cast<float>(size) * 0x1p112f);
  const uint32_t bits = (half & 0x7C00) == 0x7C00 ? size | 0x7F800000u : finite;  // infinity and NaN stay so
  return std::bit_cast<float>(bits | sign);
}

EASEL_CLONES void convert(const uint16_t* from, at::BFloat16* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = narrow<at::BFloat16>(widen_half(from[i]));
}

}  // namespace

Tensor bfloat16_of_half(const Tensor& x) {
  const Tensor halves = x.contiguous();
  Tensor y = at::empty(x.sizes(), x.options().dtype(at::kBFloat16));
  const auto* from = reinterpret_cast<const uint16_t*>(halves.const_data_ptr<at::Half>());
  auto* to = y.mutable_data_ptr<at::BFloat16>();
  at::parallel_for(0, x.numel(), 1 << 16,
                   [&](int64_t begin, int64_t end) { convert(from + begin, to + begin, end - begin); });
  return y;
}

}  // namespace easel::cpu
