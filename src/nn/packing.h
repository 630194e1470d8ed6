// How layers bring their weights into a form that is faster to multiply.
#pragma once

#include "easel/weights.h"

namespace easel {

// weight becomes `packed`, where that is defined; whether it is. The file's pages are not needed again then.
bool replace(Tensor& weight, Tensor packed, const Weights& w);

// Whether linears of that weight [out, in] are in eight bits; whether they are kept in panels, of a file of sixteen
// bits (cpu/panels.h).
bool is_int8(const Weights& w, const Shape& linear);
bool takes_panels(const Weights& w, const Shape& linear);

// A weight "weight" in panels beside x of dtype; what is not finite in it is reported to w.
Tensor in_panels(const Tensor& weight, const Weights& w, at::ScalarType dtype);
// Beside w's dtype; undefined where the weight is none of sixteen bits.
Tensor halves_in_panels(const Tensor& weight, const Weights& w);

// weight [out, in], in panels or oneDNN's order; undefined where neither takes it.
Tensor packed_linear(const Tensor& weight, const Weights& w);

}  // namespace easel
