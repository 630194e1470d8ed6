#pragma once

#include "easel/tensor.h"

namespace easel {

// Whether every value of a floating-point tensor is finite. Allocates nothing and reads at the speed of memory, where
// at::isfinite(x).all() writes a mask first.
bool all_finite(const Tensor& x);

}  // namespace easel
