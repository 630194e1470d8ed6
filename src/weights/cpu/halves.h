#pragma once

#include "easel/tensor.h"

namespace easel::cpu {

struct Converted {
  Tensor values;
  bool finite;  // all of them
};

// float16 → bfloat16, through float32 as Tensor::to rounds, or float32: files hold the one, processors multiply the
// others. ATen's loop to bfloat16 takes one value at a time, and a look at the result for what is not finite goes
// through memory again.
Converted of_halves(const Tensor& x, at::ScalarType dtype);

}  // namespace easel::cpu
