#include "nn/cpu/group_norm.h"

#include <ATen/Parallel.h>

#include <bit>
#include <cmath>

// Each loop is compiled for three instruction sets and chosen when the program starts; its helpers must be inlined into
// it. Not under the address sanitizer: the choosing runs before the sanitizer is there.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define EASEL_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EASEL_CLONES
#endif
#define EASEL_INLINE inline __attribute__((always_inline))

namespace easel::cpu {
namespace {

// ---- values -------------------------------------------------------------------------------------------------------

EASEL_INLINE float widen(float x) { return x; }
EASEL_INLINE float widen(at::BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.x) << 16); }

template <class T>
EASEL_INLINE T narrow(float x);
template <>
EASEL_INLINE float narrow<float>(float x) {
  return x;
}
template <>  // to nearest, ties to even; NaN stays NaN because its payload's top bit is kept
EASEL_INLINE at::BFloat16 narrow<at::BFloat16>(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = x != x ? bits | 0x400000u : bits + 0x7FFFu + ((bits >> 16) & 1u);
  return at::BFloat16(static_cast<unsigned short>(rounded >> 16), at::BFloat16::from_bits());
}

// e^x for x ≤ 0 to 2e-7 relative: 2^n·p(f) with n + f = x·log2(e), p the polynomial of Cephes' exp2f; written without
// branches so that the compiler vectorises the loop around it.
EASEL_INLINE float exp_of_negative(float x) {
  const float scaled = std::max(x * 1.44269504f, -126.0f);
  const float shifted = scaled + 12582912.0f;  // 1.5·2^23: the sum's low bits are the nearest integer
  const float f = scaled - (shifted - 12582912.0f);
  float p = 1.535336188e-4f;
  for (const float coefficient :
       {1.339887440e-3f, 9.618437357e-3f, 5.550332471e-2f, 2.402264791e-1f, 6.931472029e-1f, 1.0f})
    p = p * f + coefficient;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - 0x4B400000;
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + (exponent << 23));
}

EASEL_INLINE float silu(float x) {
  const float e = exp_of_negative(-std::abs(x));
  return x * (x < 0 ? e : 1.0f) / (1.0f + e);
}

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

#define EASEL_SCALE_ROWS(T)                                                                               \
  EASEL_CLONES void scale_rows(const T* x, T* y, int64_t rows, int64_t channels, const float* scale,      \
                               const float* shift) {                                                      \
    for (int64_t r = 0; r < rows; ++r) {                                                                  \
      for (int64_t c = 0; c < channels; ++c)                                                              \
        y[r * channels + c] = narrow<T>(widen(x[r * channels + c]) * scale[c] + shift[c]);                \
    }                                                                                                     \
  }                                                                                                       \
  EASEL_CLONES void scale_rows_silu(const T* x, T* y, int64_t rows, int64_t channels, const float* scale, \
                                    const float* shift) {                                                 \
    for (int64_t r = 0; r < rows; ++r) {                                                                  \
      for (int64_t c = 0; c < channels; ++c)                                                              \
        y[r * channels + c] = narrow<T>(silu(widen(x[r * channels + c]) * scale[c] + shift[c]));          \
    }                                                                                                     \
  }
EASEL_SCALE_ROWS(float)
EASEL_SCALE_ROWS(at::BFloat16)
#undef EASEL_SCALE_ROWS

// Pixels of one block: few enough for float32 sums, enough to make a thread's start worth it.
constexpr int64_t kBlock = 128;

struct Moments {
  std::vector<double> sum, square;  // [C]
};

template <class T>
Moments moments_of(const T* x, int64_t pixels, int64_t channels) {
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

// Per channel y = scale·x + shift, from the moments of the channel's group.
void coefficients(const Moments& m, int64_t pixels, int64_t groups, const float* weight, const float* bias, double eps,
                  std::vector<float>& scale, std::vector<float>& shift) {
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
void run(const Tensor& x, Tensor& y, int64_t groups, const Tensor& weight, const Tensor& bias, double eps,
         Activation activation) {
  const int64_t channels = x.size(1), pixels = x.size(2) * x.size(3);
  const Tensor w = weight.to(at::kFloat).contiguous(), b = bias.to(at::kFloat).contiguous();
  std::vector<float> scale(static_cast<std::size_t>(channels)), shift(scale.size());
  for (int64_t n = 0; n < x.size(0); ++n) {
    const T* in = x.const_data_ptr<T>() + n * pixels * channels;
    T* out = y.mutable_data_ptr<T>() + n * pixels * channels;
    coefficients(moments_of(in, pixels, channels), pixels, groups, w.const_data_ptr<float>(), b.const_data_ptr<float>(),
                 eps, scale, shift);
    at::parallel_for(0, pixels, kBlock, [&](int64_t begin, int64_t end) {
      const T* from = in + begin * channels;
      T* to = out + begin * channels;
      if (activation == Activation::kSilu)
        scale_rows_silu(from, to, end - begin, channels, scale.data(), shift.data());
      else
        scale_rows(from, to, end - begin, channels, scale.data(), shift.data());
    });
  }
}

}  // namespace

bool can_group_norm(const Tensor& x) {
  const bool dtype = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  return dtype && x.device().is_cpu() && x.dim() == 4 && x.numel() > 0 &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight, const Tensor& bias, double eps,
                  Activation activation) {
  TORCH_CHECK(can_group_norm(x) && x.size(1) % groups == 0, "group_norm of ", x.sizes(), " in ", groups, " groups");
  Tensor y = at::empty_like(x, x.options(), at::MemoryFormat::ChannelsLast);
  if (x.scalar_type() == at::kFloat)
    run<float>(x, y, groups, weight, bias, eps, activation);
  else
    run<at::BFloat16>(x, y, groups, weight, bias, eps, activation);
  return y;
}

}  // namespace easel::cpu
