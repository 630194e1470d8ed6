// UniPC: "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", Zhao et al. 2023.
// UniP-p takes the step, and when the network has been called at its end, UniC-p takes it again with that prediction;
// no call more than Euler. B(h) is h (bh1) or e^h − 1 (bh2).
#include <cmath>
#include <deque>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

struct Known {
  double lambda;
  Tensor m;  // x0, or eps without predict_x0
};

// r_1 … r_p, the right-hand side b of eq. 11 and B(h) of one step; `hh` is −h for data prediction, h for noise.
struct Coefficients {
  std::vector<double> r, b;
  double big_b;

  Coefficients(std::vector<double> r, double hh, bool bh1) : r(std::move(r)) {
    big_b = bh1 ? hh : std::expm1(hh);
    double h_phi = std::expm1(hh) / hh - 1, factorial = 1;
    for (std::size_t k = 1; k <= this->r.size(); ++k) {
      b.push_back(h_phi * factorial / big_b);
      factorial *= static_cast<double>(k) + 1;
      h_phi = h_phi / hh - 1 / factorial;
    }
  }

  // The ρ with Σ_j r_j^k·ρ_j = b_k for the first `count` of both.
  std::vector<double> solve(std::size_t count) const {
    const auto n = static_cast<int64_t>(count);
    const Tensor matrix = at::empty({n, n}, at::kDouble), right = at::empty({n}, at::kDouble);
    for (int64_t k = 0; k < n; ++k) {
      right[k] = b[k];
      for (int64_t j = 0; j < n; ++j) matrix[k][j] = std::pow(r[j], k);
    }
    const Tensor rho = at::linalg_solve(matrix, right).contiguous();
    return {rho.data_ptr<double>(), rho.data_ptr<double>() + n};
  }
};

// Everything about one step from `from` to `to`, seen from the predictions known at its start (newest first).
class UniStep {
 public:
  UniStep(const ScheduleSpec& spec, const Leg& leg, const std::deque<Known>& known, std::size_t order)
      : spec_(spec), leg_(leg), known_(known), order_(order), h_(lambda(leg.to) - lambda(leg.from)) {}

  Tensor predictor(const Tensor& x) const {
    if (order_ == 1) return first_order(x);  // where σ_t = 0, bh1's B(h) is infinite: NaN in diffusers
    const Coefficients c = coefficients();
    const std::vector<double> rho = order_ == 2 ? std::vector{0.5} : c.solve(order_ - 1);
    return first_order(x) - scale() * c.big_b * differences(c, rho);
  }

  Tensor corrector(const Tensor& x, const Tensor& at_the_end) const {
    const Coefficients c = coefficients();
    const std::vector<double> rho = order_ == 1 ? std::vector{0.5} : c.solve(order_);
    Tensor sum = rho.back() * (at_the_end - known_[0].m);
    if (order_ > 1) sum = sum + differences(c, rho);
    return first_order(x) - scale() * c.big_b * sum;
  }

 private:
  double hh() const { return spec_.predict_x0 ? -h_ : h_; }
  double scale() const { return spec_.predict_x0 ? leg_.to.alpha : leg_.to.sigma; }

  Tensor first_order(const Tensor& x) const {
    const auto& [from, to] = leg_;
    // σ_t·(e^h − 1) = α_t·σ_s/α_s − σ_t, finite where σ_t is 0
    if (!spec_.predict_x0)
      return to.alpha / from.alpha * x - (to.alpha * from.sigma / from.alpha - to.sigma) * known_[0].m;
    return to.sigma / from.sigma * x - to.alpha * std::expm1(-h_) * known_[0].m;
  }

  Coefficients coefficients() const {
    std::vector<double> r;
    for (std::size_t j = 1; j < order_; ++j) r.push_back((known_[j].lambda - known_[0].lambda) / h_);
    r.push_back(1);
    return {r, hh(), spec_.solver_type == SolverType::kBh1};
  }

  // Σ ρ_j·(m_j − m_0)/r_j over the older predictions.
  Tensor differences(const Coefficients& c, const std::vector<double>& rho) const {
    Tensor sum = at::zeros_like(known_[0].m);
    for (std::size_t j = 1; j < order_; ++j) sum = sum + rho[j - 1] / c.r[j - 1] * (known_[j].m - known_[0].m);
    return sum;
  }

  const ScheduleSpec& spec_;
  const Leg& leg_;
  const std::deque<Known>& known_;
  std::size_t order_;
  double h_;
};

std::size_t order_of(const Run& run, std::size_t i, std::size_t known) {
  const auto order = static_cast<std::size_t>(run.spec.solver_order);
  if (run.legs[i].to.sigma == 0) return 1;
  const std::size_t left = run.legs.size() - i;
  return std::min(run.spec.lower_order_final ? std::min(order, left) : order, known);
}

bool corrects_after(const ScheduleSpec& spec, std::size_t step) {
  const auto& off = spec.disable_corrector;
  return std::find(off.begin(), off.end(), static_cast<int64_t>(step)) == off.end();
}

Tensor unipc(Run& run, Tensor x) {
  const ScheduleSpec& spec = run.spec;
  std::deque<Known> known;  // newest first
  Tensor start;             // x where the last step began
  std::size_t order = 1;    // of the last step
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const Prediction p = run.predict(x, i);
    const Tensor m = spec.predict_x0 ? p.x0 : p.eps;
    if (i > run.begin && corrects_after(spec, i - 1))
      x = UniStep(spec, run.legs[i - 1], known, order).corrector(start, m);
    known.push_front({lambda(run.legs[i].from), m});
    if (known.size() > static_cast<std::size_t>(spec.solver_order)) known.pop_back();
    order = order_of(run, i, known.size());
    start = x;
    x = UniStep(spec, run.legs[i], known, order).predictor(x);
    run.report(x);
  }
  return x;
}

std::unique_ptr<Sampler> make(const SchedulerConfig& config, const SamplerOptions& options, const char* solver_type) {
  const json arguments = {{"solver_type", solver_type}};
  const ScheduleSpec spec = spec_for(config, options, "UniPCMultistepScheduler", Schedules::kAny, arguments);
  const SigmaHabits habits{.solver = true, .rounded = SigmaHabits::Round::kAlways, .repeats_last = true};
  return std::make_unique<BoundSampler>(spec, solver_plan(spec, steps_of(spec, options), habits), unipc, 0, options);
}

}  // namespace

std::unique_ptr<Sampler> make_unipc(const SchedulerConfig& config, const SamplerOptions& options) {
  return make(config, options, "bh2");
}

std::unique_ptr<Sampler> make_unipc_bh1(const SchedulerConfig& config, const SamplerOptions& options) {
  return make(config, options, "bh1");
}

}  // namespace easel::diffusion
