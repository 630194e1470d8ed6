// DDIM: "Denoising Diffusion Implicit Models", Song, Meng & Ermon 2021.
#include <algorithm>
#include <cmath>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

Tensor ddim(Run& run, Tensor x) {
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const auto& [from, to] = run.legs[i];
    const double bar_ratio = std::pow(from.alpha / to.alpha, 2);                      // ᾱ_t/ᾱ_prev
    const double sigma = run.eta * to.sigma / from.sigma * std::sqrt(1 - bar_ratio);  // eq. 16
    const double direction = std::sqrt(std::max(0.0, to.sigma * to.sigma - sigma * sigma));

    const Prediction p = run.predict_unclipped(x, i);
    // Clipping moves x0 alone: eps stays the network's (diffusers' use_clipped_model_output = False).
    x = to.alpha * clipped(run.spec, p.x0) + direction * p.eps;  // eq. 12
    if (run.eta > 0) x = x + sigma * run.draw(x);
    run.report(x);
  }
  return x;
}

// Under the file's spacings a step goes to t − T/n, which linspace and trailing need not visit (as in diffusers).
void step_by_stride(const ScheduleSpec& spec, int n, double final_alpha_bar, Plan& plan) {
  const std::vector<double> alpha_bar = alphas_cumprod(spec);
  const int64_t stride = spec.num_train_timesteps / n;
  for (auto& [from, to] : plan.legs) {
    const int64_t t = static_cast<int64_t>(from.t) - stride;
    const double bar = t >= 0 ? alpha_bar[t] : final_alpha_bar;
    to = {static_cast<double>(t), std::sqrt(bar), std::sqrt(1 - bar)};
  }
}

}  // namespace

std::unique_ptr<Sampler> make_ddim(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "DDIMScheduler", Schedules::kTimesteps);
  const double last = spec.set_alpha_to_one ? 1.0 : alphas_cumprod(spec).front();
  Plan plan = timestep_plan(spec, whole_timesteps(spec, options.steps), last);
  if (spec.sigma_rule == SigmaRule::kSpacing) step_by_stride(spec, options.steps, last, plan);
  return std::make_unique<BoundSampler>(spec, plan, ddim, eta_for(options, 0.0), options);
}

}  // namespace easel::diffusion
