#include "nn/cpu/geglu.h"

#include <ATen/Parallel.h>

#include "easel/vector_loops.h"

namespace easel::cpu {
namespace {

#define EASEL_GEGLU_ROW(T)                                                                        \
  EASEL_CLONES void geglu_row(const T* value, const T* gate, T* y, int64_t width) {               \
    for (int64_t i = 0; i < width; ++i) y[i] = narrow<T>(widen(value[i]) * gelu(widen(gate[i]))); \
  }
EASEL_GEGLU_ROW(float)
EASEL_GEGLU_ROW(at::BFloat16)
#undef EASEL_GEGLU_ROW

template <class T>
void run(const Tensor& x, Tensor& y) {
  const int64_t width = y.size(-1), rows = y.numel() / width;
  const T* in = x.const_data_ptr<T>();
  T* out = y.mutable_data_ptr<T>();
  constexpr int64_t kGrain = 1 << 15;  // values a thread takes at least
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      geglu_row(in + 2 * r * width, in + (2 * r + 1) * width, out + r * width, width);
  });
}

}  // namespace

bool can_geglu(const Tensor& x) {
  const bool dtype = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return dtype && x.device().is_cpu() && x.dim() > 0 && x.numel() > 0 && x.size(-1) % 2 == 0 && x.is_contiguous();
}

Tensor geglu(const Tensor& x) {
  TORCH_CHECK(can_geglu(x), "geglu of ", x.sizes());
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() /= 2;
  Tensor y = at::empty(shape, x.options());
  if (x.scalar_type() == at::kFloat)
    run<float>(x, y);
  else
    run<at::BFloat16>(x, y);
  return y;
}

}  // namespace easel::cpu
