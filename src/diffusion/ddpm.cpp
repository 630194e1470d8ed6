// DDPM: "Denoising Diffusion Probabilistic Models", Ho, Jain & Abbeel 2020, algorithm 2, on any subsequence of
// timesteps. Learned variances: "Improved Denoising Diffusion Probabilistic Models", Nichol & Dhariwal 2021.
#include <algorithm>
#include <cmath>

#include "diffusion/ddpm_posterior.h"
#include "diffusion/samplers.h"

namespace easel::diffusion {

Posterior posterior(double alpha_bar, double alpha_bar_prev) {
  Posterior q;
  const double alpha = alpha_bar / alpha_bar_prev;
  q.beta = 1 - alpha;
  q.x0_coefficient = std::sqrt(alpha_bar_prev) * q.beta / (1 - alpha_bar);
  q.x_coefficient = std::sqrt(alpha) * (1 - alpha_bar_prev) / (1 - alpha_bar);
  q.variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * q.beta;
  return q;
}

namespace {

class Ddpm final : public VariancePreservingSampler {
 public:
  Ddpm(const ScheduleSpec& spec, int n)
      : VariancePreservingSampler(spec, spaced_timesteps(spec, n, /*rounded=*/true)) {}

  Tensor sample(const Denoiser& denoise, Tensor x, const NoiseSource& noise, const OnStep& on_step) const override {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      const bool last = i + 1 == steps_.size();
      const Posterior q = posterior(alpha_bar(timesteps_[i]), alpha_bar(last ? -1 : timesteps_[i + 1]));
      const Prediction p = denoise(x, steps_[i]);
      const Tensor x0 = clipped(spec_, p.x0);
      x = q.x0_coefficient * x0 + q.x_coefficient * x;  // eq. 7
      // Noise stops at t = 0, not at the last step: with an offset or trailing spacing the last step draws as well.
      if (timesteps_[i] > 0) x = add_deviation(x, q, p.variance, draw(noise, x));
      report(on_step, i, x);
    }
    return x;
  }

 private:
  // x + sqrt(variance)·z, the variance as variance_type says (Ho et al. 2020, §3.2; Nichol & Dhariwal 2021, eq. 15).
  Tensor add_deviation(const Tensor& x, const Posterior& q, const Tensor& learned, const Tensor& z) const {
    const double small = std::max(q.variance, 1e-20);  // the last step's is 0, and its logarithm is taken
    switch (spec_.variance_type) {
      case VarianceType::kFixedSmall:
      case VarianceType::kFixedSmallLog:
        return x + std::sqrt(small) * z;
      case VarianceType::kFixedLarge:
      // diffusers takes the square root of log β here, NaN; what Glide means by it is β.
      case VarianceType::kFixedLargeLog:
        return x + std::sqrt(q.beta) * z;
      case VarianceType::kLearned:
        return x + required(learned).sqrt() * z;
      case VarianceType::kLearnedRange: {
        const Tensor fraction = (required(learned) + 1) / 2;
        return x + at::exp(0.5 * (fraction * std::log(q.beta) + (1 - fraction) * std::log(small))) * z;
      }
    }
    throw std::logic_error("unknown variance type");
  }

  const Tensor& required(const Tensor& learned) const {
    if (learned.defined()) return learned;
    throw Error(ErrorKind::kFile, spec_.where + ": variance_type is learned, but the network has no variance channels",
                "the scheduler_config.json and the U-Net do not belong together");
  }
};

}  // namespace

std::unique_ptr<Sampler> make_ddpm(const SchedulerConfig& config, const SamplerOptions& options) {
  return std::make_unique<Ddpm>(spec_for(config, options, "DDPMScheduler"), options.steps);
}

}  // namespace easel::diffusion
