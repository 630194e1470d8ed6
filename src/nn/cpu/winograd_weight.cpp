#include <ATen/Parallel.h>

#include "easel/vector_loops.h"
#include "nn/cpu/half_rows.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/products.h"
#include "nn/cpu/winograd.h"
#include "nn/cpu/winograd_transforms.h"

namespace easel::cpu {
namespace {

// 36 streams at distances that share their places in the caches: each line would be pushed out half written.
void keep_row(const float* from, int64_t count, float, float* to) { stream_row(from, count, to); }
void keep_row(const float* from, int64_t count, float scale, at::Half* to) { stream_row(from, count, scale, to); }

// The size of the largest, by its bits, which order as the values do.
EASEL_CLONES uint16_t largest_bits(const uint16_t* values, int64_t count) {
  uint16_t largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<uint16_t>(values[i] & 0x7FFF));
  return largest;
}

// No transformed filter is larger than twice the largest of its weights.
template <class T>
float half_scale(const Tensor& weight) {
  constexpr int kTop = 15;  // float16 ends at 2^16
  const auto* bits = static_cast<const uint16_t*>(weight.const_data_ptr());
  const uint16_t most = at::parallel_reduce(
      0, weight.numel(), 1 << 16, uint16_t{0},
      [&](int64_t begin, int64_t end, uint16_t so_far) {
        return std::max(so_far, largest_bits(bits + begin, end - begin));
      },
      [](uint16_t x, uint16_t y) { return std::max(x, y); });
  const float largest = 2 * widen(T(most, T::from_bits()));
  if (!std::isfinite(largest) || largest == 0) return 1;
  return std::ldexp(1.0f, std::clamp(kTop - 1 - std::ilogb(largest), -126, 126));
}

constexpr int64_t kTurned = 16;  // channels whose filters are widened at once; a weight's are a multiple of it

template <class T, class Kept>
void transform_weight(const Tensor& weight, WinogradWeight& w) {
  const int64_t out = weight.size(0), in = weight.size(1), width = run_columns();
  const T* filters = weight.const_data_ptr<T>();
  Kept* to = w.planes.mutable_data_ptr<Kept>();
  at::parallel_for(0, (out + width - 1) / width, 1, [&](int64_t begin, int64_t end) {
    float wide[kMostRunColumns][9 * kTurned], one[9][kMostRunColumns], planes[kPlanes][kMostRunColumns];
    for (int64_t run = begin; run < end; ++run) {
      const int64_t first = run * width, columns = std::min(width, out - first);
      for (int64_t c = 0; c < in; ++c) {
        const int64_t k = c % kTurned * 9;
        for (int64_t n = 0; k == 0 && n < columns; ++n)
          widen_row(filters + ((first + n) * in + c) * 9, 9 * kTurned, wide[n]);
        for (int64_t n = 0; n < columns; ++n) {
          for (int64_t i = 0; i < 9; ++i) one[i][n] = wide[n][k + i];
        }
        transform_filters(one, columns, planes);
        for (int64_t p = 0; p < kPlanes; ++p)
          keep_row(planes[p], columns, w.scale, to + p * in * out + first * in + c * columns);
      }
    }
    finish_streams();
  });
}

}  // namespace

bool can_winograd(at::IntArrayRef weight, at::ScalarType dtype, Coarsest coarsest) {
  constexpr int64_t kFewest = 64, kMost = 1920 * 640, kMostOfLarge = 2560 * 1280;  // channels; in · out
  if (weight.size() != 4 || weight[2] != 3 || weight[3] != 3 || !has_float_products()) return false;
  const int64_t out = weight[0], in = weight[1];
  // float32's would take twice the memory for half the gain.
  const int64_t most = coarsest == Coarsest::kLarge && dtype == at::kBFloat16 ? kMostOfLarge : kMost;
  const bool pays = dtype == at::kFloat || (dtype == at::kBFloat16 && pair_unit() != PairUnit::kAmx);
  return pays && std::min(in, out) >= kFewest && in % 16 == 0 && out % 16 == 0 && in * out <= most;
}

int64_t winograd_bytes(at::IntArrayRef weight, at::ScalarType dtype) {
  return kPlanes * weight[0] * weight[1] * static_cast<int64_t>(c10::elementSize(dtype));
}

WinogradWeight winograd_weight(const Tensor& stored, at::ScalarType dtype) {
  const Tensor weight = stored.contiguous();
  WinogradWeight w{.planes = at::empty({kPlanes * weight.numel() / 9}, dtype == at::kFloat ? at::kFloat : at::kHalf)};
  const auto transform = [&]<class T>(T) {
    if (dtype == at::kFloat) return transform_weight<T, float>(weight, w);
    if constexpr (sizeof(T) == 2) {
      w.scale = half_scale<T>(weight);
      transform_weight<T, at::Half>(weight, w);
    }
  };
  switch (weight.scalar_type()) {
    case at::kFloat:
      transform(float());
      break;
    case at::kHalf:
      transform(at::Half());
      break;
    default:
      transform(at::BFloat16());
  }
  return w;
}

}  // namespace easel::cpu
