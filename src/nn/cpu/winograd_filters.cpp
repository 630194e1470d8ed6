#include "nn/cpu/winograd_filters.h"

#include "nn/cpu/half_rows.h"
#include "nn/cpu/panels.h"
#include "nn/cpu/products.h"
#include "nn/cpu/winograd_transforms.h"

namespace easel::cpu {
namespace {

// A panel is [in · 9 / 2, its columns, 2]: nine rows of it are two channels' filters.
template <class W>
void transform(const Tensor& panels, const FilterPart& part, float* to) {
  constexpr int64_t kPlaces = 9;
  const int64_t out = panels.size(0), others = panels.size(1), panel = part.column / kPanelColumns * kPanelColumns;
  const int64_t width = std::min(kPanelColumns, out - panel), run = run_columns();
  const int64_t stride = filter_stride(part);
  const W* from = panels.const_data_ptr<W>() + panel * others + 2 * (part.column - panel);
  float wide[2 * kPlaces][kPanelColumns];
  for (int64_t channel = 0; channel < part.count; channel += 2) {
    for (int64_t i = 0; i < kPlaces; ++i) {
      const int64_t pair = (part.channel + channel) / 2 * kPlaces + i;
      widen_pairs(from + 2 * pair * width, part.columns, wide[2 * i], wide[2 * i + 1]);
    }
    for (int64_t first = 0; first < part.columns; first += run) {
      for (int64_t c = 0; c < 2; ++c)
        transform_filters(wide[kPlaces * c] + first, kPanelColumns, std::min(run, part.columns - first),
                          to + first * part.count + (channel + c) * run, stride);
    }
  }
}

}  // namespace

int64_t filter_stride(const FilterPart& part) {
  const int64_t run = run_columns();
  return plane_stride((part.columns + run - 1) / run * run * part.count);
}

void transform_panels(const Tensor& panels, const FilterPart& part, float* to) {
  with_kept_type(panels.scalar_type(), [&]<class W>(W) { transform<W>(panels, part, to); });
}

}  // namespace easel::cpu
