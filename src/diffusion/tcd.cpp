// TCD: "Trajectory Consistency Distillation", Zheng et al. 2024, strategic stochastic sampling: each step follows the
// trajectory to s = (1 − η)·t_next and goes back up from s to t_next with noise.
#include <cmath>

#include "diffusion/samplers.h"
#include "diffusion/schedule_table.h"

namespace easel::diffusion {
namespace {

Tensor tcd(Run& run, Tensor x, const std::vector<double>& alpha_bar) {
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const bool last = i + 1 == run.legs.size();
    const double t_next = last ? 0.0 : run.legs[i].to.t;
    constexpr double kRounding = 1e-6;  // diffusers multiplies in float32, which makes 0.1·470 whole
    const double t_s = std::floor((1 - run.eta) * t_next + kRounding);
    const double bar_s = alpha_bar[static_cast<std::size_t>(t_s)];
    const double bar_next = alpha_bar[static_cast<std::size_t>(t_next)];

    const Prediction p = run.predict_unclipped(x, i);
    x = std::sqrt(bar_s) * p.x0 + std::sqrt(1 - bar_s) * p.eps;
    if (run.eta > 0 && !last) x = std::sqrt(bar_next / bar_s) * x + std::sqrt(1 - bar_next / bar_s) * run.draw(x);
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_tcd(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "TCDScheduler", Schedules::kTimesteps);
  const std::vector<double> t =
      leaves_schedule(options) ? distilled_timesteps(spec, options.steps) : whole_timesteps(spec, options.steps);
  const Method method = [alpha_bar = alphas_cumprod(spec)](Run& run, Tensor x) { return tcd(run, x, alpha_bar); };
  return std::make_unique<BoundSampler>(spec, timestep_plan(spec, t, 1.0), method, eta_for(options, 0.0), options);
}

}  // namespace easel::diffusion
