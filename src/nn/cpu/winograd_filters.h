// Transformed filters of weights that are kept in panels (winograd.h, panels.h).
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// Of `columns` columns from `column` on, within one panel, and of `count` channels from `channel` on; both even.
struct FilterPart {
  int64_t column, columns, channel, count;
};

// panels: of weights [out, in, 3, 3], float32, float16 or bfloat16 → to [36, runs of columns, count,
// run_columns()] (products.h), the planes so far apart:
int64_t filter_stride(const FilterPart& part);
void transform_panels(const Tensor& panels, const FilterPart& part, float* to);

}  // namespace easel::cpu
