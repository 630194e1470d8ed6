// From the sums of a product with one panel to values of its result (panels.h).
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// rows × columns of y, whose rows are `stride` apart, from sums [rows][kPanelColumns] with bias [columns] and (where it
// is not null) the residual, laid out as y, added; rounded once.
void finish(const float* sums, int64_t rows, int64_t columns, const float* bias, const float* residual, int64_t stride,
            float* y);
void finish(const float* sums, int64_t rows, int64_t columns, const float* bias, const at::BFloat16* residual,
            int64_t stride, at::BFloat16* y);

// A row of kPanelColumns: (value + its bias) · gelu(gate + its bias).
void finish_geglu(const float* value, const float* gate, const float* value_bias, const float* gate_bias, float* y);
void finish_geglu(const float* value, const float* gate, const float* value_bias, const float* gate_bias,
                  at::BFloat16* y);

}  // namespace easel::cpu
