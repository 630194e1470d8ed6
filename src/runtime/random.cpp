#include <ATen/CPUGeneratorImpl.h>

#include <random>

#include "easel/runtime.h"

namespace easel {

RandomStream::RandomStream(uint64_t seed) : generator_(at::detail::createCPUGenerator(seed)) {}

Tensor RandomStream::randn(at::IntArrayRef shape) {
  return at::randn(shape, generator_, at::TensorOptions(at::kFloat));
}

uint64_t random_seed() {
  std::random_device entropy;  // 32 bits a call
  return entropy();
}

}  // namespace easel
