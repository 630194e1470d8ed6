// DPM++ 2M and 3M: "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", Lu et al. 2022,
// algorithm 2 and its third-order form, multistep on the data prediction; with eta > 0 their SDE forms (appendix;
// sample_dpmpp_2m_sde, sample_dpmpp_3m_sde of k-diffusion).
#include <cmath>
#include <deque>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

struct Known {
  double lambda;
  Tensor x0;
};

// The order of leg i: what the history allows, lower at the end where the file says so; the last step to sigma 0 is
// always first order, as h is infinite there.
std::size_t order_of(const Run& run, std::size_t i, std::size_t known) {
  const std::size_t n = run.legs.size(), order = static_cast<std::size_t>(run.spec.solver_order);
  const bool lowers = run.spec.lower_order_final && n < 15;
  if (i + 1 == n && (run.spec.euler_at_final || lowers || run.legs[i].to.sigma == 0)) return 1;
  if (i + 2 == n && lowers) return std::min<std::size_t>({2, order, known});
  return std::min(order, known);
}

// What curvature adds to the first-order step, in units of α_t. y = (1 + η)·h.
Tensor higher_order_terms(const std::deque<Known>& m, double to, double y, std::size_t order, SolverType type) {
  const double h = to - m[0].lambda, r0 = (m[0].lambda - m[1].lambda) / h;
  const double phi_2 = std::expm1(-y) / y + 1;
  const Tensor d1_0 = (m[0].x0 - m[1].x0) / r0;
  if (order == 2) return (type == SolverType::kHeun ? phi_2 : -0.5 * std::expm1(-y)) * d1_0;

  const double r1 = (m[1].lambda - m[2].lambda) / h;
  const Tensor d1_1 = (m[1].x0 - m[2].x0) / r1;
  const Tensor d1 = d1_0 + r0 / (r0 + r1) * (d1_0 - d1_1), d2 = (d1_0 - d1_1) / (r0 + r1);
  // Interpolation in λ gives d2 the weight 2·φ_3. The authors' code has φ_3, and with it diffusers, k-diffusion and so
  // this: of order 2, with a smaller error than 2M. diffusers' SDE form has φ_3 + 1, which is first order, and is not
  // followed.
  const double phi_3 = phi_2 / y - 0.5;
  return phi_2 * d1 - phi_3 * d2;
}

Tensor dpmpp_multistep(Run& run, Tensor x) {
  std::deque<Known> known;  // newest first
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const auto& [from, to] = run.legs[i];
    known.push_front({lambda(from), run.predict(x, i).x0});
    if (known.size() > 3) known.pop_back();
    const std::size_t order = order_of(run, i, known.size());

    const double h = lambda(to) - lambda(from), y = (1 + run.eta) * h;
    // e^{−ηh} is written apart: where h is infinite σ_t is 0, and 0·∞ would be NaN with eta 0.
    const double decay = run.eta > 0 ? std::exp(-run.eta * h) : 1.0;
    Tensor next = to.sigma / from.sigma * decay * x - to.alpha * std::expm1(-y) * known[0].x0;
    if (order > 1) next = next + to.alpha * higher_order_terms(known, lambda(to), y, order, run.spec.solver_type);
    if (run.eta > 0) next = next + to.sigma * std::sqrt(-std::expm1(-2 * run.eta * h)) * run.draw(x);
    x = next;
    run.report(x);
  }
  return x;
}

std::unique_ptr<Sampler> make(const SchedulerConfig& config, const SamplerOptions& options, int order, bool sde) {
  const json arguments = {{"algorithm_type", sde ? "sde-dpmsolver++" : "dpmsolver++"}, {"solver_order", order}};
  const ScheduleSpec spec = spec_for(config, options, "DPMSolverMultistepScheduler", Schedules::kAny, arguments);
  const SigmaHabits habits{.solver = true, .rounded = SigmaHabits::Round::kAlways};
  return std::make_unique<BoundSampler>(spec, solver_plan(spec, steps_of(spec, options), habits), dpmpp_multistep,
                                        sde ? eta_for(options, 1.0) : 0.0, options);
}

}  // namespace

std::unique_ptr<Sampler> make_dpmpp_2m(const SchedulerConfig& config, const SamplerOptions& options) {
  return make(config, options, 2, false);
}

std::unique_ptr<Sampler> make_dpmpp_3m(const SchedulerConfig& config, const SamplerOptions& options) {
  return make(config, options, 3, false);
}

std::unique_ptr<Sampler> make_dpmpp_2m_sde(const SchedulerConfig& config, const SamplerOptions& options) {
  return make(config, options, 2, true);
}

std::unique_ptr<Sampler> make_dpmpp_3m_sde(const SchedulerConfig& config, const SamplerOptions& options) {
  return make(config, options, 3, true);
}

}  // namespace easel::diffusion
