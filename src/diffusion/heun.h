#pragma once

#include "diffusion/sampler_base.h"

namespace easel::diffusion {

// One leg by Heun's method (Karras et al. 2022, algorithm 2), by Euler's where it ends at sigma 0.
Tensor heun_step(Run& run, const Tensor& x, std::size_t leg);

}  // namespace easel::diffusion
