#include "nn/cpu/group_norm.h"

#include <ATen/Parallel.h>

#include "easel/vector_loops.h"

namespace easel::cpu {
namespace {

// ---- passes -------------------------------------------------------------------------------------------------------

// Adds each channel's sum and sum of squares over `rows` pixels. The float32 sums start at zero for every block of
// rows.
#define EASEL_SUM_ROWS(T)                                                                             \
  EASEL_CLONES void sum_rows(const T* x, int64_t rows, int64_t channels, float* sum, float* square) { \
    for (int64_t r = 0; r < rows; ++r) {                                                              \
      for (int64_t c = 0; c < channels; ++c) {                                                        \
        const float value = widen(x[r * channels + c]);                                               \
        sum[c] += value;                                                                              \
        square[c] += value * value;                                                                   \
      }                                                                                               \
    }                                                                                                 \
  }
EASEL_SUM_ROWS(float)
EASEL_SUM_ROWS(at::BFloat16)
#undef EASEL_SUM_ROWS

#define EASEL_AFFINE(T)                                                                            \
  EASEL_CLONES void affine(const T* x, T* y, int64_t pixels, int64_t channels, const float* scale, \
                           const float* shift) {                                                   \
    for (int64_t p = 0; p < pixels; ++p) {                                                         \
      for (int64_t c = 0; c < channels; ++c)                                                       \
        y[p * channels + c] = narrow<T>(widen(x[p * channels + c]) * scale[c] + shift[c]);         \
    }                                                                                              \
  }
EASEL_AFFINE(float)
EASEL_AFFINE(at::BFloat16)
#undef EASEL_AFFINE

// Pixels of one block: few enough for float32 sums, enough to make a thread's start worth it.
constexpr int64_t kBlock = 128;

struct Moments {
  std::vector<double> sum, square;  // [C]
};

// Of so few values the variance can be a thousandth of the mean's square, and float32's squares lose it.
constexpr int64_t kFewPixels = 16;

template <class T>
Moments moments_of_few(const T* x, int64_t pixels, int64_t channels) {
  Moments m{std::vector<double>(static_cast<std::size_t>(channels)),
            std::vector<double>(static_cast<std::size_t>(channels))};
  for (int64_t i = 0; i < pixels * channels; ++i) {
    const double value = widen(x[i]);
    const auto c = static_cast<std::size_t>(i % channels);
    m.sum[c] += value;
    m.square[c] += value * value;
  }
  return m;
}

template <class T>
Moments moments_of(const T* x, int64_t pixels, int64_t channels) {
  if (pixels <= kFewPixels) return moments_of_few(x, pixels, channels);
  const int64_t blocks = (pixels + kBlock - 1) / kBlock;
  std::vector<Moments> parts(static_cast<std::size_t>(blocks));
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(static_cast<std::size_t>(channels)), square(sum.size());
    for (int64_t b = begin; b < end; ++b) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      std::fill(square.begin(), square.end(), 0.0f);
      const int64_t first = b * kBlock;
      sum_rows(x + first * channels, std::min(kBlock, pixels - first), channels, sum.data(), square.data());
      parts[static_cast<std::size_t>(b)] = {{sum.begin(), sum.end()}, {square.begin(), square.end()}};
    }
  });
  Moments total = parts.front();  // in the order of the blocks: the same result for any number of threads
  for (std::size_t b = 1; b < parts.size(); ++b) {
    for (std::size_t c = 0; c < total.sum.size(); ++c) {
      total.sum[c] += parts[b].sum[c];
      total.square[c] += parts[b].square[c];
    }
  }
  return total;
}

// From the moments of each channel's group.
void coefficients(const Moments& m, int64_t pixels, int64_t groups, const float* weight, const float* bias, double eps,
                  float* scale, float* shift) {
  const std::size_t width = m.sum.size() / static_cast<std::size_t>(groups);
  for (std::size_t g = 0; g < static_cast<std::size_t>(groups); ++g) {
    double sum = 0, square = 0;
    for (std::size_t c = g * width; c < (g + 1) * width; ++c) {
      sum += m.sum[c];
      square += m.square[c];
    }
    const double count = static_cast<double>(pixels) * static_cast<double>(width);
    const double mean = sum / count, variance = std::max(0.0, square / count - mean * mean);
    const double inverse = 1 / std::sqrt(variance + eps);
    for (std::size_t c = g * width; c < (g + 1) * width; ++c) {
      scale[c] = static_cast<float>(inverse * weight[c]);
      shift[c] = static_cast<float>(bias[c] - mean * inverse * weight[c]);
    }
  }
}

template <class T>
void run(const Tensor& x, Tensor& y, const ChannelAffine& norm, Activation activation) {
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
  for (int64_t n = 0; n < x.size(0); ++n) {
    const T* in = x.const_data_ptr<T>() + n * pixels * channels;
    T* out = y.mutable_data_ptr<T>() + n * pixels * channels;
    const float* scale = norm.scale.const_data_ptr<float>() + n * channels;
    const float* shift = norm.shift.const_data_ptr<float>() + n * channels;
    at::parallel_for(0, pixels, kBlock, [&](int64_t begin, int64_t end) {
      const T* from = in + begin * channels;
      T* to = out + begin * channels;
      if (activation == Activation::kSilu)
        affine_silu(from, to, end - begin, channels, scale, shift);
      else
        affine(from, to, end - begin, channels, scale, shift);
    });
  }
}

}  // namespace

#define EASEL_AFFINE_SILU(T)                                                                            \
  EASEL_CLONES void affine_silu(const T* x, T* y, int64_t pixels, int64_t channels, const float* scale, \
                                const float* shift) {                                                   \
    for (int64_t p = 0; p < pixels; ++p) {                                                              \
      for (int64_t c = 0; c < channels; ++c)                                                            \
        y[p * channels + c] = narrow<T>(silu(widen(x[p * channels + c]) * scale[c] + shift[c]));        \
    }                                                                                                   \
  }
EASEL_AFFINE_SILU(float)
EASEL_AFFINE_SILU(at::BFloat16)
#undef EASEL_AFFINE_SILU

bool can_group_norm(const Tensor& x) {
  const bool dtype = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return dtype && x.device().is_cpu() && x.dim() == 4 && x.numel() > 0 &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

ChannelAffine group_norm_affine(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps) {
  TORCH_CHECK(can_group_norm(x) && x.size(1) % groups == 0, "group_norm of ", x.sizes(), " in ", groups, " groups");
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
  const Tensor w = weight.to(at::kFloat).contiguous(), b = bias.to(at::kFloat).contiguous();
  ChannelAffine norm{.scale = at::empty({x.size(0), channels}), .shift = at::empty({x.size(0), channels})};
  for (int64_t n = 0; n < x.size(0); ++n) {
    const int64_t at = n * pixels * channels;
    const Moments moments = x.scalar_type() == at::kFloat
                                ? moments_of(x.const_data_ptr<float>() + at, pixels, channels)
                                : moments_of(x.const_data_ptr<at::BFloat16>() + at, pixels, channels);
    coefficients(moments, pixels, groups, w.const_data_ptr<float>(), b.const_data_ptr<float>(), eps,
                 norm.scale.mutable_data_ptr<float>() + n * channels,
                 norm.shift.mutable_data_ptr<float>() + n * channels);
  }
  return norm;
}

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps,
                  Activation activation) {
  const ChannelAffine norm = group_norm_affine(x, groups, weight, bias, eps);
  Tensor y = at::empty_like(x, x.options(), at::MemoryFormat::ChannelsLast);
  if (x.scalar_type() == at::kFloat)
    run<float>(x, y, norm, activation);
  else
    run<at::BFloat16>(x, y, norm, activation);
  return y;
}

}  // namespace easel::cpu
