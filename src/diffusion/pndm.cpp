// PNDM: "Pseudo Numerical Methods for Diffusion Models on Manifolds", Liu et al. 2022. Two variants, as published files
// ask for: three Runge-Kutta steps and then linear multistep (algorithm 2), or with skip_prk_steps the multistep alone,
// its first step a Heun-like pair (PLMS of CompVis' latent-diffusion).
#include <cmath>
#include <deque>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

// The network calls of n steps.
std::vector<double> calls_of(const ScheduleSpec& spec, int n) {
  const std::vector<double> t = spaced_timesteps(spec, n, /*rounded=*/true);
  std::vector<double> calls;
  if (spec.skip_prk_steps) {
    for (int i = 0; i < n; ++i) calls.insert(calls.end(), i == 1 ? 2 : 1, t[i]);  // the second twice
    return calls;
  }
  if (n < 4)
    throw Error(
        ErrorKind::kUsage,
        "--steps " + std::to_string(n) + ": this model's PNDM begins with Runge-Kutta and needs at least 4 steps",
        "take more --steps, or ddim with --sampler");
  const auto half = static_cast<double>(spec.num_train_timesteps / n / 2);
  for (int i = 0; i < 3; ++i) calls.insert(calls.end(), {t[i], t[i + 1] + half, t[i + 1] + half, t[i + 1]});
  calls.insert(calls.end(), t.begin() + 3, t.end());
  return calls;
}

// Its legs are the network calls; the method works out itself where each of them goes.
Plan pndm_plan(const ScheduleSpec& spec, int n) {
  const std::vector<double> alpha_bar = alphas_cumprod(spec);
  Plan plan;
  plan.steps = n;
  for (const double t : calls_of(spec, n)) {
    const Step step = step_at(spec, alpha_bar, t);
    plan.legs.push_back({step, step});
  }
  return plan;
}

// One run's state.
class Pndm {
 public:
  Pndm(Run& run, int64_t stride)
      : run_(run),
        alpha_bar_(alphas_cumprod(run.spec)),
        final_alpha_bar_(run.spec.set_alpha_to_one ? 1.0 : alpha_bar_.front()),
        stride_(stride),
        i_(run.begin) {}

  Tensor operator()(Tensor x) {
    if (run_.spec.skip_prk_steps) {
      first_plms_step(x);
    } else {
      for (int k = 0; k < 3; ++k) runge_kutta_step(x);
    }
    while (i_ < run_.end) {
      remember(call(x));
      const int64_t t = timestep(i_);
      update(x, transfer(x, t, t - stride_, multistep(history_)));
    }
    return x;
  }

 private:
  int64_t timestep(std::size_t leg) const { return static_cast<int64_t>(run_.legs[leg].from.t); }
  // ᾱ at t, or what comes before t = 0.
  double alpha_bar(int64_t t) const { return t >= 0 ? alpha_bar_[t] : final_alpha_bar_; }

  Tensor call(const Tensor& x) { return output_of(run_.predict(x, i_), run_.legs[i_].from); }

  void update(Tensor& x, const Tensor& next) {
    x = next;
    ++i_;
    run_.report(x);
  }

  void remember(const Tensor& output) {
    history_.push_front(output);
    if (history_.size() > 4) history_.pop_back();
  }

  // diffusers extrapolates what the network says, v as well as eps, and turns v into eps afterwards. An x0 network,
  // which diffusers' PNDM refuses, is extrapolated in eps.
  Tensor output_of(const Prediction& p, const Step& step) const {
    return run_.spec.prediction == PredictionType::kVPrediction ? step.alpha * p.eps - step.sigma * p.x0 : p.eps;
  }

  // φ of eq. 11 (the paper's "transfer part", diffusers' formula 9): x_t → x_prev along the given output.
  Tensor transfer(const Tensor& x, int64_t t, int64_t prev, const Tensor& output) const {
    const double bar = alpha_bar(t), bar_prev = alpha_bar(prev);
    const Tensor eps = run_.spec.prediction == PredictionType::kVPrediction
                           ? std::sqrt(bar) * output + std::sqrt(1 - bar) * x
                           : output;
    const double denominator = bar * std::sqrt(1 - bar_prev) + std::sqrt(bar * (1 - bar) * bar_prev);
    return std::sqrt(bar_prev / bar) * x - (bar_prev - bar) / denominator * eps;
  }

  // Adams-Bashforth of the order the history allows (eq. 12; Shampine & Gordon for the lower ones).
  static Tensor multistep(const std::deque<Tensor>& e) {
    switch (e.size()) {
      case 1:
        return e[0];
      case 2:
        return (3 * e[0] - e[1]) / 2;
      case 3:
        return (23 * e[0] - 16 * e[1] + 5 * e[2]) / 12;
      default:
        return (55 * e[0] - 59 * e[1] + 37 * e[2] - 9 * e[3]) / 24;
    }
  }

  // An Euler step, then the same step again with the mean of both ends' outputs. Only the first output is remembered.
  // A run cut short at its beginning has lost the doubled timestep, and diffusers does this all the same.
  void first_plms_step(Tensor& x) {
    const Tensor start = x;
    const int64_t first = timestep(i_);
    remember(call(x));
    update(x, transfer(start, first, first - stride_, history_[0]));
    if (i_ == run_.end) return;
    const int64_t t = timestep(i_);
    update(x, transfer(start, t + stride_, t, (call(x) + history_[0]) / 2));
  }

  // Eq. 13, four calls at t, t − δ/2, t − δ/2, t − δ. The half steps go to t − ⌊δ⌋/2, the calls are told the next
  // timestep plus ⌊δ⌋/2; for odd δ these differ by one, as in diffusers.
  void runge_kutta_step(Tensor& x) {
    const Tensor start = x;
    const int64_t t = timestep(i_), middle = timestep(i_ + 1), end = timestep(i_ + 3), half = stride_ / 2;
    const Tensor e1 = call(x);
    update(x, transfer(start, t, t - half, e1));
    const Tensor e2 = call(x);
    update(x, transfer(start, t, middle, e2));
    const Tensor e3 = call(x);
    update(x, transfer(start, t, middle - half, e3));
    const Tensor e4 = call(x);
    update(x, transfer(start, t, end, e1 / 6 + e2 / 3 + e3 / 3 + e4 / 6));
    remember(e1);
  }

  Run& run_;
  std::vector<double> alpha_bar_;
  double final_alpha_bar_;
  int64_t stride_;              // δ
  std::size_t i_;               // the next call
  std::deque<Tensor> history_;  // outputs, newest first, at most 4
};

}  // namespace

std::unique_ptr<Sampler> make_pndm(const SchedulerConfig& config, const SamplerOptions& options) {
  ScheduleSpec spec = spec_for(config, options, "PNDMScheduler", Schedules::kSpacings);
  // Runge-Kutta belongs to the beginning: a part of a run does without.
  if (options.strength < 1 || options.denoising_start || options.denoising_end) spec.skip_prk_steps = true;
  const Plan plan = pndm_plan(spec, options.steps);
  const Method method = [stride = spec.num_train_timesteps / options.steps](Run& run, Tensor x) {
    return Pndm(run, stride)(std::move(x));
  };
  return std::make_unique<BoundSampler>(spec, plan, method, 0, options);
}

}  // namespace easel::diffusion
