// DPM2 a: ancestral sampling with the midpoint steps of dpm2.cpp; sample_dpm_2_ancestral of k-diffusion.
#include <cmath>

#include "diffusion/ancestral.h"
#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

Tensor dpm2_ancestral(Run& run, Tensor x) {
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const auto& [from, to] = run.legs[i];
    const AncestralStep step(from.sigma, to.sigma, run.eta);
    const double middle = std::sqrt(from.sigma * step.down);
    const Prediction p = run.predict(x, i);
    const Tensor halfway = x + (middle - from.sigma) * p.eps;
    run.report(halfway);
    if (step.down == 0) {
      x = halfway;  // Euler's method
      continue;
    }
    const Prediction q = run.predict_at(halfway, {run.t_at(middle), 1.0, middle}, i);
    x = x + (step.down - from.sigma) * q.eps;
    if (run.eta > 0) x = x + step.up * run.draw(x);
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_dpm2_ancestral(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "KDPM2AncestralDiscreteScheduler", Schedules::kAny);
  const SigmaHabits habits{.rounded = SigmaHabits::Round::kKarras};
  return std::make_unique<BoundSampler>(spec, sigma_plan(spec, steps_of(spec, options), habits), dpm2_ancestral,
                                        eta_for(options, 1.0), options);
}

}  // namespace easel::diffusion
