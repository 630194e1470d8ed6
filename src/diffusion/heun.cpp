// Heun's method on the probability flow ODE: Karras et al. 2022, algorithm 1; sample_heun of k-diffusion.
#include "diffusion/heun.h"

#include "diffusion/samplers.h"

namespace easel::diffusion {

Tensor heun_step(Run& run, const Tensor& x, std::size_t leg) {
  const auto& [from, to] = run.legs[leg];
  const Prediction p = run.predict(x, leg);
  const Tensor euler = x + (to.sigma - from.sigma) * p.eps;
  run.report(euler);
  if (to.sigma == 0) return euler;

  const Prediction q = run.predict_at(euler, to, leg);
  const Tensor heun = x + (to.sigma - from.sigma) * (p.eps + q.eps) / 2;
  run.report(heun);
  return heun;
}

namespace {

Tensor heun(Run& run, Tensor x) {
  for (std::size_t i = run.begin; i < run.end; ++i) x = heun_step(run, x, i);
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_heun(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "HeunDiscreteScheduler", Schedules::kAny);
  return std::make_unique<BoundSampler>(spec, sigma_plan(spec, steps_of(spec, options)), heun, 0, options);
}

}  // namespace easel::diffusion
