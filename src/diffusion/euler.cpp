// Euler's method on the probability flow ODE dx/dσ = (x − D(x; σ))/σ: "Elucidating the Design Space of Diffusion-Based
// Generative Models", Karras et al. 2022, algorithm 2 without churn; sample_euler of k-diffusion.
#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

class Euler final : public SigmaSampler {
 public:
  Euler(ScheduleSpec spec, int n) : SigmaSampler(std::move(spec), n) {}

  Tensor sample(const Denoiser& denoise, Tensor x, const NoiseSource&, const OnStep& on_step) const override {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      // With alpha = 1, x = x0 + sigma·eps and dx/dσ = eps (eq. 3), so x + (σ_next − σ)·dx/dσ is this, without the loss
      // of three digits where σ is 4096 (zero-terminal SNR).
      const Prediction p = denoise(x, steps_[i]);
      x = p.x0 + sigma_[i + 1] * p.eps;
      report(on_step, i, x);
    }
    return x;
  }
};

}  // namespace

std::unique_ptr<Sampler> make_euler(const SchedulerConfig& config, const SamplerOptions& options) {
  return std::make_unique<Euler>(spec_for(config, options, "EulerDiscreteScheduler"), options.steps);
}

}  // namespace easel::diffusion
