// DEIS: "Fast Sampling of Diffusion Models with Exponential Integrator", Zhang & Chen 2023, tAB-DEIS with the
// polynomial in log ρ, ρ = σ/α: x/α moves by ∫ ε dρ, and ε is interpolated over the last steps.
#include <cmath>
#include <deque>

#include "diffusion/lagrange.h"
#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

std::size_t order_of(const Run& run, std::size_t i, std::size_t known) {
  const std::size_t n = run.legs.size(), order = std::min(3, run.spec.solver_order);
  const bool lowers = run.spec.lower_order_final && n < 15;
  if ((i + 1 == n && lowers) || run.legs[i].to.sigma == 0) return 1;  // log ρ has no end at σ = 0
  if (i + 2 == n && lowers) return std::min<std::size_t>({2, order, known});
  return std::min(order, known);
}

Tensor deis(Run& run, Tensor x) {
  std::deque<Tensor> eps;  // newest first
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const auto& [from, to] = run.legs[i];
    eps.push_front(run.predict(x, i).eps);
    if (eps.size() > 3) eps.pop_back();
    const std::size_t order = order_of(run, i, eps.size());
    if (order == 1) {
      x = to.alpha * (x / from.alpha + (to.sigma / to.alpha - from.sigma / from.alpha) * eps[0]);
    } else {
      std::vector<double> nodes;  // log ρ − log ρ_t = λ_t − λ
      for (std::size_t j = 0; j < order; ++j) nodes.push_back(lambda(to) - lambda(run.legs[i - j].from));
      const std::vector<double> weights = adams_weights(-1, nodes[0], nodes);  // dρ = ρ_t·e^s ds
      x = x * (to.alpha / from.alpha);
      for (std::size_t j = 0; j < order; ++j) x = x - to.sigma * weights[j] * eps[j];
    }
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_deis(const SchedulerConfig& config, const SamplerOptions& options) {
  const json arguments = {{"algorithm_type", "deis"}, {"solver_type", "logrho"}};
  const ScheduleSpec spec = spec_for(config, options, "DEISMultistepScheduler", Schedules::kAny, arguments);
  const SigmaHabits habits{
      .solver = true, .rounded = SigmaHabits::Round::kAlways, .repeats_last = true, .never_zero = true};
  return std::make_unique<BoundSampler>(spec, solver_plan(spec, steps_of(spec, options), habits), deis, 0, options);
}

}  // namespace easel::diffusion
