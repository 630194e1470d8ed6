// The tiny text encoders with their random weights.
#pragma once

#include "easel/text.h"
#include "support/golden.h"

namespace easel::testing {

inline ClipTextEncoder family_encoder(const std::string& model, const std::string& part) {
  const ClipTextSpec spec = ClipTextSpec::from_json(config(model, part), model);
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  ClipTextEncoder(shapes, spec);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, shape] : shapes.binding().asked)
    tensors.emplace_back(name, random_weight(part + "/" + published_key(part, name), shape, 0));
  return ClipTextEncoder(Weights(tensor_source(tensors, part), at::kCPU, at::kFloat), spec);
}

}  // namespace easel::testing
