// Euler's method on the probability flow ODE dx/dσ = (x − D(x; σ))/σ: "Elucidating the Design Space of Diffusion-Based
// Generative Models", Karras et al. 2022, algorithm 2 without churn; sample_euler of k-diffusion.
#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

Tensor euler(Run& run, Tensor x) {
  for (std::size_t i = run.begin; i < run.end; ++i) {
    // With alpha = 1, x = x0 + sigma·eps and dx/dσ = eps (eq. 3), so x + (σ_next − σ)·dx/dσ is this, without the loss
    // of three digits where σ is 4096 (zero-terminal SNR).
    const Prediction p = run.predict(x, i);
    x = p.x0 + run.legs[i].to.sigma * p.eps;
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_euler(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "EulerDiscreteScheduler", Schedules::kAny);
  return std::make_unique<BoundSampler>(spec, sigma_plan(spec, steps_of(spec, options)), euler, 0, options);
}

}  // namespace easel::diffusion
