// DPM2: the midpoint method on the ODE of Karras et al. 2022, the midpoint taken in log σ as DPM-Solver-2 does (Lu et
// al. 2022, "DPM-Solver"); sample_dpm_2 of k-diffusion.
#include <cmath>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

Tensor dpm2(Run& run, Tensor x) {
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const auto& [from, to] = run.legs[i];
    const double middle = std::sqrt(from.sigma * to.sigma);
    const Prediction p = run.predict(x, i);
    const Tensor halfway = x + (middle - from.sigma) * p.eps;
    run.report(halfway);
    if (to.sigma == 0) {
      x = halfway;  // Euler's method
      continue;
    }
    const Prediction q = run.predict_at(halfway, {run.t_at(middle), 1.0, middle}, i);
    x = x + (to.sigma - from.sigma) * q.eps;
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_dpm2(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "KDPM2DiscreteScheduler", Schedules::kAny);
  const SigmaHabits habits{.rounded = SigmaHabits::Round::kKarras};
  return std::make_unique<BoundSampler>(spec, sigma_plan(spec, steps_of(spec, options), habits), dpm2, 0, options);
}

}  // namespace easel::diffusion
