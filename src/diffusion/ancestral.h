#pragma once

#include <algorithm>
#include <cmath>

namespace easel::diffusion {

// A step from one sigma to a smaller one, split into the ODE down to `down` and noise of deviation `up`:
// down² + up² = to². With eta = 1 it is DDPM's posterior (Song et al. 2021, "Score-Based Generative Modeling through
// SDEs", appendix F); get_ancestral_step of k-diffusion.
struct AncestralStep {
  double down, up;

  AncestralStep(double from, double to, double eta) {
    up = std::min(to, eta * std::sqrt(to * to * (from * from - to * to) / (from * from)));
    down = std::sqrt(std::max(0.0, to * to - up * up));
  }
};

}  // namespace easel::diffusion
