#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

// float16 → bfloat16 through float32, as Tensor::to rounds: files hold the one, processors multiply the other, and
// ATen's loop takes one value at a time.
Tensor bfloat16_of_half(const Tensor& x);

}  // namespace easel::cpu
