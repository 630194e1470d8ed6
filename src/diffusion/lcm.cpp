// LCM: "Latent Consistency Models", Luo et al. 2023: multistep consistency sampling (Song et al. 2023, algorithm 1).
// Each step jumps to the picture and, but for the last, back up to the next timestep with fresh noise.
#include <cmath>

#include "diffusion/samplers.h"
#include "diffusion/schedule_table.h"

namespace easel::diffusion {
namespace {

Tensor lcm(Run& run, Tensor x) {
  constexpr double kSigmaData = 0.5;
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const Prediction p = run.predict(x, i);
    // f(x, t) = c_skip·x + c_out·x0, which is x itself at t = 0.
    const double t = run.legs[i].from.t * run.spec.timestep_scaling, norm = std::hypot(t, kSigmaData);
    x = t / norm * p.x0 + std::pow(kSigmaData / norm, 2) * x;
    const bool last = i + 1 == run.legs.size();
    if (!last) x = run.legs[i].to.alpha * x + run.legs[i].to.sigma * run.draw(x);
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_lcm(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "LCMScheduler", Schedules::kTimesteps);
  const std::vector<double> t =
      leaves_schedule(options) ? distilled_timesteps(spec, options.steps) : whole_timesteps(spec, options.steps);
  return std::make_unique<BoundSampler>(spec, timestep_plan(spec, t, 1.0), lcm, 0, options);
}

}  // namespace easel::diffusion
