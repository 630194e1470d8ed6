// Ancestral sampling with Euler steps: sample_euler_ancestral of k-diffusion (Crowson 2022). Each step goes down to
// sigma_down along the ODE of Karras et al. 2022 and adds noise back up to the next sigma; the split is DDPM's
// posterior (Song et al. 2021, "Score-Based Generative Modeling through SDEs", appendix F).
#include <cmath>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

class EulerAncestral final : public SigmaSampler {
 public:
  EulerAncestral(ScheduleSpec spec, int n) : SigmaSampler(std::move(spec), n) {}

  Tensor sample(const Denoiser& denoise, Tensor x, const NoiseSource& noise, const OnStep& on_step) const override {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      const double from = sigma_[i], to = sigma_[i + 1];
      const double sigma_up = std::sqrt(to * to * (from * from - to * to) / (from * from));
      const double sigma_down = std::sqrt(to * to - sigma_up * sigma_up);

      const Prediction p = denoise(x, steps_[i]);
      x = p.x0 + sigma_down * p.eps;  // as in euler.cpp
      // diffusers draws in the last step too, where sigma_up is 0: the stream stays in step with it.
      x = x + sigma_up * draw(noise, x);
      report(on_step, i, x);
    }
    return x;
  }
};

}  // namespace

std::unique_ptr<Sampler> make_euler_ancestral(const SchedulerConfig& config, const SamplerOptions& options) {
  return std::make_unique<EulerAncestral>(spec_for(config, options, "EulerAncestralDiscreteScheduler"), options.steps);
}

}  // namespace easel::diffusion
