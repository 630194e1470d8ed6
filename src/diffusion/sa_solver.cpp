// SA-Solver: "SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models", Xue et al. 2023, algorithm 1
// on the data prediction: a stochastic Adams-Bashforth predictor, and when the network has been called at its end, an
// Adams-Moulton corrector with the same noise. τ, how stochastic, is 1 for timesteps 200 … 800 and 0 outside.
#include <cmath>
#include <deque>

#include "diffusion/lagrange.h"
#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

double tau_at(double t) { return t >= 200 && t <= 800 ? 1.0 : 0.0; }

struct Known {
  double lambda;
  Tensor x0;
};

// eq. 14 (predictor) and 17 (corrector): x decays, and the predictions, interpolated in λ, are integrated exactly.
struct SaStep {
  const Leg& leg;
  double tau, h, a;

  SaStep(const Leg& leg, double tau) : leg(leg), tau(tau), h(lambda(leg.to) - lambda(leg.from)), a(1 + tau * tau) {}

  Tensor taken(const Tensor& x, const std::vector<Known>& m, std::vector<double> weights, const Tensor& z) const {
    const double decay = tau > 0 ? std::exp(-tau * tau * h) : 1.0;
    Tensor next = leg.to.sigma / leg.from.sigma * decay * x;
    for (std::size_t j = 0; j < m.size(); ++j) next = next + a * leg.to.alpha * weights[j] * m[j].x0;
    return tau > 0 ? next + leg.to.sigma * std::sqrt(-std::expm1(-2 * tau * tau * h)) * z : next;
  }

  // ∫ e^{−a(λ_t − λ)}·ℓ_j(λ) dλ over the step.
  std::vector<double> weights(const std::vector<Known>& m) const {
    if (m.size() == 1) return {-std::expm1(-a * h) / a};  // finite where h is not
    std::vector<double> nodes;
    for (const Known& known : m) nodes.push_back(lambda(leg.to) - known.lambda);
    return adams_weights(a, h, nodes);
  }

  // The second-order weights of few-step sampling, as with UniPC (appendix of the paper): the slope is integrated as if
  // the exponential were 1. `shift` moves from the older prediction's weight to the newer's.
  double missing() const { return (a * h - 1 + std::exp(-a * h)) / (a * a); }

  Tensor predictor(const Tensor& x, const std::vector<Known>& m, const Tensor& z) const {
    std::vector<double> w = weights(m);
    if (m.size() == 2) {
      const double shift = (h * h / 2 - missing()) / (m[0].lambda - m[1].lambda);
      w[0] += shift, w[1] -= shift;
    }
    return taken(x, m, w, z);
  }

  Tensor corrector(const Tensor& x, const std::vector<Known>& m, const Tensor& z) const {
    std::vector<double> w = weights(m);
    if (m.size() == 2) {
      const double shift = h / 2 - missing() / h;
      w[0] += shift, w[1] -= shift;
    }
    return taken(x, m, w, z);
  }
};

std::size_t order_of(const Run& run, std::size_t i, int order, std::size_t known, std::size_t beyond) {
  const std::size_t left = run.legs.size() - i + beyond;
  const auto wanted = static_cast<std::size_t>(order);
  return std::min(run.spec.lower_order_final ? std::min(wanted, left) : wanted, known + beyond);
}

Tensor sa_solver(Run& run, Tensor x) {
  const ScheduleSpec& spec = run.spec;
  std::deque<Known> known;  // newest first
  const auto newest = [&](std::size_t count) { return std::vector<Known>(known.begin(), known.begin() + count); };
  const std::size_t kept = std::max(spec.predictor_order, spec.corrector_order - 1);
  Tensor start, z;  // x where the last step began, and its noise
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const std::size_t seen = known.size();
    known.push_front({lambda(run.legs[i].from), run.predict(x, i).x0});
    if (i > run.begin) {
      const std::size_t order = order_of(run, i - 1, spec.corrector_order, seen, 1);
      x = SaStep(run.legs[i - 1], tau_at(run.legs[i - 1].from.t)).corrector(start, newest(order), z);
    }
    if (known.size() > kept) known.pop_back();
    const bool to_zero = run.legs[i].to.sigma == 0;
    const std::size_t order = to_zero ? 1 : order_of(run, i, spec.predictor_order, known.size(), 0);
    z = run.draw(x);
    start = x;
    x = SaStep(run.legs[i], tau_at(run.legs[i].from.t)).predictor(x, newest(order), z);
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_sa_solver(const SchedulerConfig& config, const SamplerOptions& options) {
  const json arguments = {{"algorithm_type", "data_prediction"}};
  const ScheduleSpec spec = spec_for(config, options, "SASolverScheduler", Schedules::kAny, arguments);
  const SigmaHabits habits{
      .solver = true, .rounded = SigmaHabits::Round::kAlways, .repeats_last = true, .never_zero = true};
  return std::make_unique<BoundSampler>(spec, solver_plan(spec, steps_of(spec, options), habits), sa_solver, 0,
                                        options);
}

}  // namespace easel::diffusion
