// Ancestral sampling with Euler steps: sample_euler_ancestral of k-diffusion (Crowson 2022). Each step goes down to
// sigma_down along the ODE of Karras et al. 2022 and adds noise back up to the next sigma.
#include "diffusion/ancestral.h"
#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

Tensor euler_ancestral(Run& run, Tensor x) {
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const AncestralStep step(run.legs[i].from.sigma, run.legs[i].to.sigma, run.eta);
    const Prediction p = run.predict(x, i);
    x = p.x0 + step.down * p.eps;  // as in euler.cpp
    // diffusers draws in the last step too, where `up` is 0: the stream stays in step with it.
    if (run.eta > 0) x = x + step.up * run.draw(x);
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_euler_ancestral(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "EulerAncestralDiscreteScheduler", Schedules::kAny);
  return std::make_unique<BoundSampler>(spec, sigma_plan(spec, steps_of(spec, options)), euler_ancestral,
                                        eta_for(options, 1.0), options);
}

}  // namespace easel::diffusion
