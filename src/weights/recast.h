#pragma once

#include "easel/weights.h"

namespace easel {

// How a tensor is made of stored ones.
struct Recipe {
  enum class Change {
    kNone,
    kThird,          // one of three equal groups of rows: OpenCLIP's q, k, v
    kStack,          // three tensors' rows, one after the other
    kTranspose,      // of a matrix
    kMatrix,         // [A, B, 1, 1] → [A, B]: LDM's VAE keeps linear layers as convolutions
    kConvolution1x1  // the other way
  };
  std::vector<std::string> stored;
  Change change = Change::kNone;
  int64_t third = 0;  // 0, 1, 2
};

// A view of `base` with the names of `recipes`. `stored_names` are for messages: names a view lacks have one too.
SourcePtr recast(SourcePtr base, std::map<std::string, Recipe> recipes,
                 std::function<std::string(const std::string&)> stored_name);

}  // namespace easel
