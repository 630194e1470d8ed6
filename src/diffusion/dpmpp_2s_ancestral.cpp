// DPM++ 2S a: ancestral sampling with single-step second-order DPM-Solver++ (Lu et al. 2022, "DPM-Solver++", algorithm
// 1, r = 1/2), in k-diffusion's form (sample_dpmpp_2s_ancestral).
#include <cmath>

#include "diffusion/ancestral.h"
#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

Tensor dpmpp_2s_ancestral(Run& run, Tensor x) {
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const auto& [from, to] = run.legs[i];
    const AncestralStep step(from.sigma, to.sigma, run.eta);
    const Prediction p = run.predict(x, i);
    if (step.down == 0) {
      x = p.x0;
    } else {
      // x(σ) = (σ/σ_from)·x + (1 − σ/σ_from)·x0 solves the ODE for constant x0.
      const double middle = std::sqrt(from.sigma * step.down);
      const Tensor halfway = middle / from.sigma * x + (1 - middle / from.sigma) * p.x0;
      run.report(halfway);
      const Prediction q = run.predict_at(halfway, {run.t_at(middle), 1.0, middle}, i);
      x = step.down / from.sigma * x + (1 - step.down / from.sigma) * q.x0;
    }
    if (to.sigma > 0 && run.eta > 0) x = x + step.up * run.draw(x);
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_dpmpp_2s_ancestral(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "EulerDiscreteScheduler", Schedules::kAny);
  return std::make_unique<BoundSampler>(spec, sigma_plan(spec, steps_of(spec, options)), dpmpp_2s_ancestral,
                                        eta_for(options, 1.0), options);
}

}  // namespace easel::diffusion
