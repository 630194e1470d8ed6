// What linears by kernels of our own have in common.
#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// Room for x's rows, `width` values wide.
inline Tensor wide_as(const Tensor& x, int64_t width) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = width;
  return at::empty(shape, x.options());
}

// A bias of any float in float32, zeros where there is none: [out].
inline Tensor bias_in_float(const Tensor& bias, int64_t out) {
  return bias.defined() ? bias.to(at::kFloat).contiguous() : at::zeros({out}, at::kFloat);
}

}  // namespace easel::cpu
