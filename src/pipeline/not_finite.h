// What both pipelines do and say when values are not finite.
#pragma once

#include "easel/pipeline.h"

namespace easel {

inline bool is_finite(const Tensor& x) { return at::isfinite(x.sum()).item<bool>(); }

inline Error not_finite(const std::string& stage) {
  return Error(ErrorKind::kPicture, stage + " gave values that are not finite, in f32 too: no picture",
               "the weights may be damaged; compare their hash with the publisher's");
}

inline void warn_of_retry(const std::string& stage, at::ScalarType dtype) {
  log::warn(stage + " gave values that are not finite in " + dtype_name(dtype) + "; once more in f32");
}

}  // namespace easel
