#include "weights/cpu/halves.h"

#include <ATen/Parallel.h>

#include <atomic>

#include "easel/vector_loops.h"

namespace easel::cpu {
namespace {

// Whether all are finite: an exponent of ones carries into the sign when its lowest bit is added.
#define EASEL_CONVERT(T)                                                  \
  EASEL_CLONES bool convert(const at::Half* from, T* to, int64_t count) { \
    uint16_t carried = 0;                                                 \
    for (int64_t i = 0; i < count; ++i) {                                 \
      to[i] = narrow<T>(widen(from[i]));                                  \
      carried |= static_cast<uint16_t>((from[i].x & 0x7C00u) + 0x0400u);  \
    }                                                                     \
    return (carried & 0x8000u) == 0;                                      \
  }
EASEL_CONVERT(float)
EASEL_CONVERT(at::BFloat16)
#undef EASEL_CONVERT

template <class T>
bool run(const Tensor& halves, Tensor& values) {
  const at::Half* from = halves.const_data_ptr<at::Half>();
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
