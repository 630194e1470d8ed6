#include <ATen/Parallel.h>

#include "nn/cpu/half_rows.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/winograd.h"
#include "nn/cpu/winograd_transforms.h"

namespace easel::cpu {
namespace {

void keep_row(const float* from, int64_t count, float, float* to) { std::copy_n(from, count, to); }
void keep_row(const float* from, int64_t count, float scale, at::Half* to) { narrow_row(from, count, scale, to); }

// No transformed filter is larger than twice the largest of its weights.
float half_scale(const Tensor& weight) {
  constexpr int kTop = 15;  // float16 ends at 2^16
  const auto [least, most] = at::aminmax(weight);
  const float largest = 2 * std::max(-least.item<float>(), most.item<float>());
  if (!std::isfinite(largest) || largest == 0) return 1;
  return std::ldexp(1.0f, std::clamp(kTop - 1 - std::ilogb(largest), -126, 126));
}

template <class Kept>
void transform_weight(const Tensor& filters, float scale, Kept* to) {
  const int64_t out = filters.size(0), in = filters.size(1), blocks = (out + kColumns - 1) / kColumns;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t columns = std::min(kColumns, out - block * kColumns);
      // [columns, in·9] → [in·9, columns]: a channel's filters side by side
      const Tensor turned =
          filters.narrow(0, block * kColumns, columns).reshape({columns, in * 9}).t().to(at::kFloat).contiguous();
      const float* from = turned.const_data_ptr<float>();
      float one[9][kColumns], planes[kPlanes][kColumns];
      for (int64_t c = 0; c < in; ++c) {
        for (int64_t k = 0; k < 9; ++k) std::copy_n(from + (9 * c + k) * columns, columns, one[k]);
        transform_filters(one, columns, planes);
        for (int64_t p = 0; p < kPlanes; ++p)
          keep_row(planes[p], columns, scale, to + p * in * out + block * kColumns * in + c * columns);
      }
    }
  });
}

}  // namespace

bool can_winograd(at::IntArrayRef weight, at::ScalarType dtype, Coarsest coarsest) {
  constexpr int64_t kFewest = 64, kMost = 1920 * 640, kMostOfLarge = 2560 * 1280;  // channels; in · out
  if (weight.size() != 4 || weight[2] != 3 || weight[3] != 3 || !has_avx512()) return false;
  const int64_t out = weight[0], in = weight[1];
  // float32's would take twice the memory for half the gain.
  const int64_t most = coarsest == Coarsest::kLarge && dtype == at::kBFloat16 ? kMostOfLarge : kMost;
  const bool pays = dtype == at::kFloat || (dtype == at::kBFloat16 && !has_amx_bf16());
  return pays && std::min(in, out) >= kFewest && in % 16 == 0 && out % 16 == 0 && in * out <= most;
}

int64_t winograd_bytes(at::IntArrayRef weight, at::ScalarType dtype) {
  return kPlanes * weight[0] * weight[1] * static_cast<int64_t>(c10::elementSize(dtype));
}

WinogradWeight winograd_weight(const Tensor& weight) {
  const bool is_float = weight.scalar_type() == at::kFloat;
  WinogradWeight w{.planes = at::empty({kPlanes * weight.size(1) * weight.size(0)}, is_float ? at::kFloat : at::kHalf),
                   .scale = is_float ? 1 : half_scale(weight)};
  if (is_float)
    transform_weight(weight.contiguous(), w.scale, w.planes.mutable_data_ptr<float>());
  else
    transform_weight(weight.contiguous(), w.scale, w.planes.mutable_data_ptr<at::Half>());
  return w;
}

}  // namespace easel::cpu
