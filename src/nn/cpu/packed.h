// Weights in the layout of the products that take them on the CPU: oneDNN's, or our own (panels.h) or ATen's where
// those are better.
#pragma once

#include "nn/cpu/panels.h"

namespace easel::cpu {

// A weight is reordered once, when it is loaded; at::linear and at::conv2d do it at every call. For x of the weight's
// dtype, float32 or bfloat16, where oneDNN has them; undefined for any other.
Tensor pack_linear(const Tensor& weight);
Tensor pack_convolution(const Tensor& weight, const Patches& patches);

// As at::linear and at::conv2d, with a packed weight; `residual`, where it is defined, has the result's shape and is
// added to it. A convolution without one takes a float32 bias beside bfloat16, too.
Tensor linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual = {});
// Whether weights packed so are those of their linears side by side when they are put behind one another.
bool can_join(const Tensor& packed);
// geglu(linear(x)) in one pass, where it can.
bool can_linear_geglu(const Tensor& packed);
Tensor linear_geglu(const Tensor& x, const Tensor& packed, const Tensor& bias);
Tensor convolution(const Tensor& x, const Tensor& packed, const Tensor& bias, const Patches& patches,
                   const Tensor& residual = {});

}  // namespace easel::cpu
