// PNDM: "Pseudo Numerical Methods for Diffusion Models on Manifolds", Liu et al. 2022. Two variants, as published files
// ask for: three Runge-Kutta steps and then linear multistep (algorithm 2), or with skip_prk_steps the multistep alone,
// its first step a Heun-like pair (PLMS of CompVis' latent-diffusion).
#include <cmath>
#include <deque>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

// The network calls of n steps; ascending[i] is the i-th timestep from below.
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

class Pndm final : public VariancePreservingSampler {
 public:
  Pndm(const ScheduleSpec& spec, int n)
      : VariancePreservingSampler(spec, calls_of(spec, n)), stride_(spec.num_train_timesteps / n) {
    final_alpha_bar_ = spec.set_alpha_to_one ? 1.0 : alpha_bar_.front();
  }

  Tensor sample(const Denoiser& denoise, Tensor x, const NoiseSource&, const OnStep& on_step) const override {
    std::deque<Tensor> history;  // newest first, at most 4
    std::size_t i = 0;
    const auto update = [&](const Tensor& next) {
      x = next;
      report(on_step, i++, x);
    };
    const auto call = [&] { return output_of(denoise(x, steps_[i]), steps_[i]); };

    if (spec_.skip_prk_steps) {
      first_plms_step(x, history, call, update);
    } else {
      for (int k = 0; k < 3; ++k) runge_kutta_step(i, x, history, call, update);
    }
    while (i < steps_.size()) {
      history.push_front(call());
      if (history.size() > 4) history.pop_back();
      const int64_t t = timesteps_[i];
      update(transfer(x, t, t - stride_, multistep(history)));
    }
    return x;
  }

 private:
  // diffusers extrapolates what the network says, v as well as eps, and turns v into eps afterwards. An x0 network,
  // which diffusers' PNDM refuses, is extrapolated in eps.
  Tensor output_of(const Prediction& p, const Step& step) const {
    return spec_.prediction == PredictionType::kVPrediction ? step.alpha * p.eps - step.sigma * p.x0 : p.eps;
  }

  // φ of eq. 11 (the paper's "transfer part", diffusers' formula 9): x_t → x_prev along the given output.
  Tensor transfer(const Tensor& x, int64_t t, int64_t prev, const Tensor& output) const {
    const double bar = alpha_bar(t), bar_prev = alpha_bar(prev);
    const Tensor eps =
        spec_.prediction == PredictionType::kVPrediction ? std::sqrt(bar) * output + std::sqrt(1 - bar) * x : output;
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
  template <typename Call, typename Update>
  void first_plms_step(const Tensor& x, std::deque<Tensor>& history, const Call& call, const Update& update) const {
    const Tensor start = x;
    history.push_front(call());
    update(transfer(start, timesteps_[0], timesteps_[0] - stride_, history[0]));
    if (steps_.size() == 1) return;
    const int64_t t = timesteps_[1];
    update(transfer(start, t + stride_, t, (call() + history[0]) / 2));
  }

  // Eq. 13, four calls at t, t − δ/2, t − δ/2, t − δ. The half steps go to t − ⌊δ⌋/2, the calls are told the next
  // timestep plus ⌊δ⌋/2; for odd δ these differ by one, as in diffusers.
  template <typename Call, typename Update>
  void runge_kutta_step(const std::size_t& i, const Tensor& x, std::deque<Tensor>& history, const Call& call,
                        const Update& update) const {
    const Tensor start = x;
    const int64_t t = timesteps_[i], middle = timesteps_[i + 1], end = timesteps_[i + 3], half = stride_ / 2;
    const Tensor e1 = call();
    update(transfer(start, t, t - half, e1));
    const Tensor e2 = call();
    update(transfer(start, t, middle, e2));
    const Tensor e3 = call();
    update(transfer(start, t, middle - half, e3));
    const Tensor e4 = call();
    update(transfer(start, t, end, e1 / 6 + e2 / 3 + e3 / 3 + e4 / 6));
    history.push_front(e1);
  }

  int64_t stride_;  // δ
};

}  // namespace

std::unique_ptr<Sampler> make_pndm(const SchedulerConfig& config, const SamplerOptions& options) {
  return std::make_unique<Pndm>(spec_for(config, options, "PNDMScheduler"), options.steps);
}

}  // namespace easel::diffusion
