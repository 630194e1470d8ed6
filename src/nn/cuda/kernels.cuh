// GroupNorm (Wu & He 2018) with SiLU and GEGLU (Shazeer 2020) on channels-last pictures, and LayerNorm (Ba, Kiros &
// Hinton 2016) of a residual sum. Statistics and arithmetic are float32. Two neighbouring channels are one thread's
// where their number allows: the widths of published groups (10, 20, 30, 40, …) are even, and few of them multiples
// of 4.
//
// A GroupNorm is three launches: the moments of every channel over some pixels at a time, their merge to a mean and a
// deviation of each group, and the norm itself. No sums are atomic: the same input gives the same bits.
#pragma once

#include <cstdint>

namespace easel::cuda {

constexpr int64_t kPixelsOfMoments = 32;  // of one thread
constexpr int kMergeThreads = 128;        // of a block that merges moments: a power of two
constexpr int kThreads = 256;             // of a block of the others

inline int64_t blocks_of(int64_t threads) { return (threads + kThreads - 1) / kThreads; }

template <typename T, int N>
struct alignas(N * sizeof(T)) Lanes {
  T of[N];
};

// Count, mean and sum of squared deviations; merged as Chan, Golub & LeVeque 1979 do, which keeps small deviations of
// large means.
struct Moments {
  float count, mean, squares;
};

__device__ inline Moments merged(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  if (count == 0) return a;
  const float apart = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + apart * share, a.squares + b.squares + apart * apart * a.count * share};
}

struct NormSizes {
  int64_t batch, pixels, channels, groups;
  __host__ __device__ int64_t chunks() const { return (pixels + kPixelsOfMoments - 1) / kPixelsOfMoments; }
};

// x: [batch, pixels, channels] → moments [batch, channels, chunks]. A thread has N channels of one chunk.
template <typename T, int N>
__global__ void channel_moments(NormSizes s, const T* x, Moments* moments) {
  const int64_t columns = s.channels / N, chunks = s.chunks();
  const int64_t thread = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (thread >= s.batch * chunks * columns) return;
  const int64_t column = thread % columns, chunk = thread / columns % chunks, picture = thread / columns / chunks;
  const int64_t first = chunk * kPixelsOfMoments, left = s.pixels - first;
  const int64_t count = left < kPixelsOfMoments ? left : kPixelsOfMoments;
  const auto* from = reinterpret_cast<const Lanes<T, N>*>(x) + (picture * s.pixels + first) * columns + column;

  float shift[N], sum[N], squares[N];  // of what is beyond the first pixel's values
  for (int n = 0; n < N; ++n) shift[n] = static_cast<float>(from->of[n]), sum[n] = squares[n] = 0;
  for (int64_t pixel = 0; pixel < count; ++pixel) {
    const Lanes<T, N> values = from[pixel * columns];
    for (int n = 0; n < N; ++n) {
      const float beyond = static_cast<float>(values.of[n]) - shift[n];
      sum[n] += beyond;
      squares[n] += beyond * beyond;
    }
  }
  const auto total = static_cast<float>(count);
  for (int n = 0; n < N; ++n)
    moments[(picture * s.channels + column * N + n) * chunks + chunk] = {total, shift[n] + sum[n] / total,
                                                                         squares[n] - sum[n] * sum[n] / total};
}

// Those of all kMergeThreads threads of a block, in parts[0] behind the last barrier.
__device__ inline void merge_in_block(const Moments& own, Moments* parts) {
  parts[threadIdx.x] = own;
  __syncthreads();
  for (int half = kMergeThreads / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half)
      parts[threadIdx.x] = merged(parts[threadIdx.x], parts[threadIdx.x + half]);
    __syncthreads();
  }
}

__device__ inline float inverse_deviation(const Moments& of, float eps) {
  return 1 / sqrtf(of.squares / of.count + eps);
}

// moments [batch, channels, chunks] → norms [batch, groups, 2]: mean and 1 / deviation. A block has one group.
__global__ void merge_moments(NormSizes s, float eps, const Moments* moments, float* norms) {
  __shared__ Moments parts[kMergeThreads];
  const int64_t count = s.channels / s.groups * s.chunks();
  const Moments* of_group = moments + int64_t{blockIdx.x} * count;
  Moments own = {0, 0, 0};
  for (int64_t i = threadIdx.x; i < count; i += kMergeThreads) own = merged(own, of_group[i]);
  merge_in_block(own, parts);
  if (threadIdx.x != 0) return;
  norms[2 * int64_t{blockIdx.x}] = parts[0].mean;
  norms[2 * int64_t{blockIdx.x} + 1] = inverse_deviation(parts[0], eps);
}

template <typename T, int N>
__global__ void normalize(NormSizes s, bool silu, const T* x, const T* weight, const T* bias, const float* norms,
                          T* y) {
  const int64_t columns = s.channels / N, width = s.channels / s.groups;
  const int64_t thread = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (thread >= s.batch * s.pixels * columns) return;
  const int64_t first = thread % columns * N, picture = thread / columns / s.pixels;
  const float* norm = norms + 2 * (picture * s.groups + first / width);  // N channels are of one group
  const Lanes<T, N> from = reinterpret_cast<const Lanes<T, N>*>(x)[thread];
  Lanes<T, N> to;
  for (int n = 0; n < N; ++n) {
    const float value = (static_cast<float>(from.of[n]) - norm[0]) * norm[1] * static_cast<float>(weight[first + n]) +
                        static_cast<float>(bias[first + n]);
    to.of[n] = static_cast<T>(silu ? value / (1 + expf(-value)) : value);
  }
  reinterpret_cast<Lanes<T, N>*>(y)[thread] = to;
}

// Floats that a GroupNorm needs: the moments, and the norms behind them.
inline int64_t workspace_of(const NormSizes& s) {
  return 3 * s.batch * s.channels * s.chunks() + 2 * s.batch * s.groups;
}

// launch(kernel, blocks, threads of a block, arguments of the kernel…) three times.
template <typename T, int N, typename Launch>
void group_norm(const Launch& launch, const NormSizes& s, float eps, bool silu, const T* x, const T* weight,
                const T* bias, float* workspace, T* y) {
  auto* moments = reinterpret_cast<Moments*>(workspace);
  float* norms = workspace + 3 * s.batch * s.channels * s.chunks();
  launch(channel_moments<T, N>, blocks_of(s.batch * s.chunks() * s.channels / N), kThreads, s, x, moments);
  launch(merge_moments, s.batch * s.groups, kMergeThreads, s, eps, moments, norms);
  launch(normalize<T, N>, blocks_of(s.batch * s.pixels * s.channels / N), kThreads, s, silu, x, weight, bias, norms, y);
}

struct LayerNormSizes {
  int64_t rows, width;
  float eps;
};

// x + residual → sum, which may be x, and its norm → y; all [rows, width]. A block of kMergeThreads has one row, and
// a thread of it every kMergeThreads-th N values: it reads back what it wrote itself. The norm is that of the sum as T
// rounds it, as of the two operations one after the other.
template <typename T, int N>
__global__ void add_and_normalize(LayerNormSizes s, const T* x, const T* residual, const T* weight, const T* bias,
                                  T* sum, T* y) {
  __shared__ Moments parts[kMergeThreads];
  const int64_t columns = s.width / N, row = int64_t{blockIdx.x} * columns;
  const auto* ours = reinterpret_cast<const Lanes<T, N>*>(x) + row;
  const auto* theirs = reinterpret_cast<const Lanes<T, N>*>(residual) + row;
  auto* sums = reinterpret_cast<Lanes<T, N>*>(sum) + row;

  float count = 0, shift = 0, total = 0, squares = 0;  // beyond the thread's first value
  for (int64_t column = threadIdx.x; column < columns; column += kMergeThreads) {
    Lanes<T, N> values = ours[column];
    for (int n = 0; n < N; ++n) {
      values.of[n] = static_cast<T>(static_cast<float>(values.of[n]) + static_cast<float>(theirs[column].of[n]));
      const auto value = static_cast<float>(values.of[n]);
      if (count == 0) shift = value;
      total += value - shift;
      squares += (value - shift) * (value - shift);
      ++count;
    }
    sums[column] = values;
  }
  Moments own = {0, 0, 0};
  if (count > 0) own = {count, shift + total / count, squares - total * total / count};
  merge_in_block(own, parts);

  const float mean = parts[0].mean, scale = inverse_deviation(parts[0], s.eps);
  for (int64_t column = threadIdx.x; column < columns; column += kMergeThreads) {
    const Lanes<T, N> values = sums[column];
    Lanes<T, N> to;
    for (int n = 0; n < N; ++n) {
      const int64_t at = column * N + n;
      const float norm = (static_cast<float>(values.of[n]) - mean) * scale;
      to.of[n] = static_cast<T>(norm * static_cast<float>(weight[at]) + static_cast<float>(bias[at]));
    }
    reinterpret_cast<Lanes<T, N>*>(y)[row + column] = to;
  }
}

template <typename T, int N, typename Launch>
void residual_layer_norm(const Launch& launch, const LayerNormSizes& s, const T* x, const T* residual, const T* weight,
                         const T* bias, T* sum, T* y) {
  launch(add_and_normalize<T, N>, s.rows, kMergeThreads, s, x, residual, weight, bias, sum, y);
}

template <typename T, int N>
__global__ void gated(int64_t rows, int64_t width, const T* x, T* y) {
  constexpr float kHalfRoot = 0.70710678118654752f;  // √½
  const int64_t columns = width / N;
  const int64_t thread = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (thread >= rows * columns) return;
  const auto* row = reinterpret_cast<const Lanes<T, N>*>(x) + thread / columns * 2 * columns;
  const Lanes<T, N> values = row[thread % columns], gates = row[columns + thread % columns];
  Lanes<T, N> to;
  for (int n = 0; n < N; ++n) {
    const auto gate = static_cast<float>(gates.of[n]);
    to.of[n] = static_cast<T>(static_cast<float>(values.of[n]) * gate * 0.5f * (1 + erff(gate * kHalfRoot)));
  }
  reinterpret_cast<Lanes<T, N>*>(y)[thread] = to;
}

template <typename T, int N, typename Launch>
void geglu(const Launch& launch, int64_t rows, int64_t width, const T* x, T* y) {
  launch(gated<T, N>, blocks_of(rows * width / N), kThreads, rows, width, x, y);
}

}  // namespace easel::cuda
