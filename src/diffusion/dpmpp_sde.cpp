// DPM++ SDE: single-step DPM-Solver++ (Lu et al. 2022, r = 1/2) with noise in both halves: sample_dpmpp_sde of
// k-diffusion, DPMSolverSDEScheduler of diffusers. Both draw from a Brownian tree; here each half draws once from the
// picture's stream.
#include <cmath>

#include "diffusion/ancestral.h"
#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

Tensor dpmpp_sde(Run& run, Tensor x) {
  // The ODE's solution for constant x0, and noise.
  const auto ancestral = [&](double from, double to, const Tensor& start, const Tensor& x0) {
    const AncestralStep step(from, to, run.eta);
    Tensor next = step.down / from * start + (1 - step.down / from) * x0;
    if (run.eta > 0) next = next + step.up * run.draw(next);
    run.report(next);
    return next;
  };
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const auto& [from, to] = run.legs[i];
    const Prediction p = run.predict(x, i);
    if (to.sigma == 0) {
      x = p.x0;
      run.report(x);
      continue;
    }
    const double middle = std::sqrt(from.sigma * to.sigma);
    const Tensor halfway = ancestral(from.sigma, middle, x, p.x0);
    const Prediction q = run.predict_at(halfway, {run.t_at(middle), 1.0, middle}, i);
    x = ancestral(from.sigma, to.sigma, x, q.x0);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_dpmpp_sde(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "DPMSolverSDEScheduler", Schedules::kAny);
  return std::make_unique<BoundSampler>(spec, sigma_plan(spec, steps_of(spec, options)), dpmpp_sde,
                                        eta_for(options, 1.0), options);
}

}  // namespace easel::diffusion
