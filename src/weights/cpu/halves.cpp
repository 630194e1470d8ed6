#include "weights/cpu/halves.h"

#include <ATen/Parallel.h>

#include <atomic>

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

// Whether all are finite: an exponent of ones carries into the sign when its lowest bit is added.
#define EASEL_CONVERT(T)                                                  \
  EASEL_CLONES bool convert(const uint16_t* from, T* to, int64_t count) { \
    uint16_t carried = 0;                                                 \
    for (int64_t i = 0; i < count; ++i) {                                 \
      to[i] = narrow<T>(widen_half(from[i]));                             \
      carried |= static_cast<uint16_t>((from[i] & 0x7C00u) + 0x0400u);    \
    }                                                                     \
    return (carried & 0x8000u) == 0;                                      \
  }
EASEL_CONVERT(float)
EASEL_CONVERT(at::BFloat16)
#undef EASEL_CONVERT

template <class T>
bool run(const Tensor& halves, Tensor& values) {
  const auto* from = reinterpret_cast<const uint16_t*>(halves.const_data_ptr<at::Half>());
  auto* to = values.mutable_data_ptr<T>();
  std::atomic<bool> finite = true;
  at::parallel_for(0, halves.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
    if (!convert(from + begin, to + begin, end - begin)) finite = false;
  });
  return finite;
}

}  // namespace

Converted of_halves(const Tensor& x, at::ScalarType dtype) {
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "halves as ", dtype);
  const Tensor halves = x.contiguous();
  Converted of{.values = at::empty(x.sizes(), x.options().dtype(dtype)), .finite = true};
  of.finite = dtype == at::kFloat ? run<float>(halves, of.values) : run<at::BFloat16>(halves, of.values);
  return of;
}

}  // namespace easel::cpu
