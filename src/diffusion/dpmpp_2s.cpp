// DPM++ 2S: DPM-Solver++ (Lu et al. 2022, algorithm 1) in diffusers' single-step form, where two steps of the schedule
// are one second-order step: a first-order one to the point between, and from the start again with what was seen there.
#include <cmath>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

// 1, 2, 1, 2, …, the last 1 where it ends at sigma 0. An odd or lowered run ends on a step of its own.
int order_of(const Run& run, std::size_t i) {
  const std::size_t n = run.legs.size();
  const bool ends_at_zero = run.legs.back().to.sigma == 0;
  const bool lowers = run.spec.lower_order_final || n % 2 != 0 || ends_at_zero;
  if (i + 1 == n && lowers) return 1;
  return i % 2 == 0 ? 1 : 2;
}

Tensor first_order(const Leg& leg, const Tensor& x, const Tensor& x0) {
  const double h = lambda(leg.to) - lambda(leg.from);
  return leg.to.sigma / leg.from.sigma * x - leg.to.alpha * std::expm1(-h) * x0;
}

// From `start` over `middle` to `to`; the predictions m1 at the start, m0 in the middle.
Tensor second_order(const Step& start, const Step& middle, const Step& to, const Tensor& x, const Tensor& m1,
                    const Tensor& m0, SolverType type) {
  const double h = lambda(to) - lambda(start), r = (lambda(middle) - lambda(start)) / h;
  const Tensor d1 = (m0 - m1) / r;
  const double curvature = type == SolverType::kHeun ? std::expm1(-h) / h + 1 : -0.5 * std::expm1(-h);
  return to.sigma / start.sigma * x - to.alpha * std::expm1(-h) * m1 + to.alpha * curvature * d1;
}

Tensor dpmpp_2s(Run& run, Tensor x) {
  Tensor start, m1;
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const Leg& leg = run.legs[i];
    const Tensor m0 = run.predict(x, i).x0;
    if (order_of(run, i) == 1 || i == run.begin) {  // a run may begin on the second half of a pair
      start = x;
      x = first_order(leg, x, m0);
    } else {
      x = second_order(run.legs[i - 1].from, leg.from, leg.to, start, m1, m0, run.spec.solver_type);
    }
    m1 = m0;
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_dpmpp_2s(const SchedulerConfig& config, const SamplerOptions& options) {
  const json arguments = {{"algorithm_type", "dpmsolver++"}, {"solver_order", 2}};
  const ScheduleSpec spec = spec_for(config, options, "DPMSolverSinglestepScheduler", Schedules::kAny, arguments);
  const SigmaHabits habits{.solver = true, .rounded = SigmaHabits::Round::kAlways};
  return std::make_unique<BoundSampler>(spec, solver_plan(spec, steps_of(spec, options), habits), dpmpp_2s, 0, options);
}

}  // namespace easel::diffusion
