// iPNDM: PNDM's linear multistep part from the first step on, its order growing to 4 (Zhang & Chen 2023, "Fast Sampling
// of Diffusion Models with Exponential Integrator", §3.2), on sigmas: sample_ipndm of ComfyUI. diffusers'
// IPNDMScheduler takes the same steps for networks that are told a continuous time.
#include <deque>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

// Adams-Bashforth for even steps, of the order the history allows.
Tensor adams_bashforth(const std::deque<Tensor>& d) {
  switch (d.size()) {
    case 1:
      return d[0];
    case 2:
      return (3 * d[0] - d[1]) / 2;
    case 3:
      return (23 * d[0] - 16 * d[1] + 5 * d[2]) / 12;
    default:
      return (55 * d[0] - 59 * d[1] + 37 * d[2] - 9 * d[3]) / 24;
  }
}

Tensor ipndm(Run& run, Tensor x) {
  std::deque<Tensor> derivatives;  // newest first, at most 4
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const auto& [from, to] = run.legs[i];
    const Prediction p = run.predict(x, i);
    derivatives.push_front(p.eps);
    if (derivatives.size() > 4) derivatives.pop_back();
    x = to.sigma == 0 ? p.x0 : x + (to.sigma - from.sigma) * adams_bashforth(derivatives);
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_ipndm(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "EulerDiscreteScheduler", Schedules::kAny);
  return std::make_unique<BoundSampler>(spec, sigma_plan(spec, steps_of(spec, options)), ipndm, 0, options);
}

}  // namespace easel::diffusion
