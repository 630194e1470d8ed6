#include "nn/cpu/layer_norm.h"

#include <ATen/Parallel.h>

#include "easel/vector_loops.h"

namespace easel::cpu {
namespace {

struct Affine {
  int64_t width;
  const float *weight, *bias;
  float eps;
};

// `wide` is room for one row, which stays in the first-level cache for the loops behind its reading. What the mean
// lacks of a long row's float32 sum is the mean of what is left without it.
#define EASEL_NORMALIZE_ROW(T)                                                                                      \
  EASEL_CLONES void normalize_row(const T* x, T* y, const Affine& a, float* wide) {                                 \
    const auto width = static_cast<float>(a.width);                                                                 \
    float sum = 0, rest = 0, square = 0;                                                                            \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < a.width; ++i) {                                  \
      wide[i] = widen(x[i]);                                                                                        \
      sum += wide[i];                                                                                               \
    }                                                                                                               \
    const float mean = sum / width;                                                                                 \
    _Pragma("omp simd reduction(+ : rest, square)") for (int64_t i = 0; i < a.width; ++i) {                         \
      wide[i] -= mean;                                                                                              \
      rest += wide[i];                                                                                              \
      square += wide[i] * wide[i];                                                                                  \
    }                                                                                                               \
    const float lack = rest / width, inverse = 1 / std::sqrt(std::max(square / width - lack * lack, 0.0f) + a.eps); \
    for (int64_t i = 0; i < a.width; ++i) y[i] = narrow<T>((wide[i] - lack) * inverse * a.weight[i] + a.bias[i]);   \
  }
EASEL_NORMALIZE_ROW(float)
EASEL_NORMALIZE_ROW(at::BFloat16)
#undef EASEL_NORMALIZE_ROW

template <class T>
void run(const Tensor& x, Tensor& y, const Affine& affine) {
  const int64_t width = affine.width, rows = x.numel() / width;
  const T* in = x.const_data_ptr<T>();
  T* out = y.mutable_data_ptr<T>();
  constexpr int64_t kGrain = 1 << 15;  // values a thread takes at least
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / width), [&](int64_t begin, int64_t end) {
    std::vector<float> wide(static_cast<std::size_t>(width));
    for (int64_t r = begin; r < end; ++r) normalize_row(in + r * width, out + r * width, affine, wide.data());
  });
}

}  // namespace

bool can_layer_norm(const Tensor& x) {
  const bool dtype = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return dtype && x.device().is_cpu() && x.dim() > 0 && x.numel() > 0 && x.is_contiguous();
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  TORCH_CHECK(can_layer_norm(x) && weight.numel() == x.size(-1) && bias.numel() == x.size(-1), "layer_norm of ",
              x.sizes(), " with weights ", weight.sizes());
  const Tensor w = weight.to(at::kFloat).contiguous(), b = bias.to(at::kFloat).contiguous();
  const Affine affine{x.size(-1), w.const_data_ptr<float>(), b.const_data_ptr<float>(), static_cast<float>(eps)};
  Tensor y = at::empty_like(x);
  if (x.scalar_type() == at::kFloat)
    run<float>(x, y, affine);
  else
    run<at::BFloat16>(x, y, affine);
  return y;
}

}  // namespace easel::cpu
