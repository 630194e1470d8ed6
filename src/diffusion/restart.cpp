// Restart sampling: "Restart Sampling for Improving Generative Processes", Xu et al. 2023, algorithm 1, with Heun steps
// and the intervals that A1111's `Restart` chooses: after sigma 0.1 noise up to sigma 2, and down again.
#include <algorithm>
#include <cmath>

#include "diffusion/heun.h"
#include "diffusion/samplers.h"
#include "diffusion/schedule_table.h"

namespace easel::diffusion {
namespace {

constexpr double kRestartFrom = 0.1, kRestartTo = 2.0;

Tensor restart(Run& run, Tensor x) {
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const double from = run.legs[i].from.sigma;
    if (i > run.begin) {
      const double reached = run.legs[i - 1].to.sigma;
      if (from > reached) x = x + std::sqrt(from * from - reached * reached) * run.draw(x);
    }
    x = heun_step(run, x, i);
  }
  return x;
}

std::size_t nearest(const std::vector<double>& sigmas, double wanted) {
  const auto closer = [&](double a, double b) { return std::abs(a - wanted) < std::abs(b - wanted); };
  return std::min_element(sigmas.begin(), sigmas.end(), closer) - sigmas.begin();
}

// From 20 steps on, 9 of them belong to one restart; from 36 on, a quarter to each of two.
Plan restart_plan(ScheduleSpec spec, int n) {
  Plan plan = sigma_plan(spec, n);
  if (n < 20) return plan;
  const int restarts = n >= 36 ? 2 : 1, steps = n >= 36 ? n / 4 : 9;
  std::vector<double> sigmas =
      karras_sigmas(plan.legs.back().from.sigma, plan.legs.front().from.sigma, n - restarts * steps);
  sigmas.push_back(0);
  const std::vector<double> training = training_sigmas(spec);
  const auto point = [&](double sigma) { return Step{sigma_to_t(sigma, training), 1.0, sigma}; };

  const std::size_t low = nearest(sigmas, kRestartFrom), high = nearest(sigmas, kRestartTo);
  const std::vector<double> again = karras_sigmas(sigmas[low], sigmas[high], steps + 1);
  plan.legs.clear();
  for (std::size_t i = 0; i + 1 < sigmas.size(); ++i) {
    plan.legs.push_back({point(sigmas[i]), point(sigmas[i + 1])});
    for (int r = 0; i + 1 == low && high < low && r < restarts; ++r) {
      for (int k = 0; k < steps; ++k) plan.legs.push_back({point(again[k]), point(again[k + 1])});
    }
  }
  plan.steps = static_cast<int>(plan.legs.size());
  return plan;
}

}  // namespace

std::unique_ptr<Sampler> make_restart(const SchedulerConfig& config, const SamplerOptions& options) {
  SamplerOptions karras = options;
  if (leaves_schedule(options)) karras.schedule = "karras";
  const ScheduleSpec spec = spec_for(config, karras, "EulerDiscreteScheduler", Schedules::kKarras);
  return std::make_unique<BoundSampler>(spec, restart_plan(spec, options.steps), restart, 0, options);
}

}  // namespace easel::diffusion
