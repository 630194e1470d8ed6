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

const Tensor& required(const ScheduleSpec& spec, const Tensor& learned) {
  if (learned.defined()) return learned;
  throw Error(ErrorKind::kFile, spec.where + ": variance_type is learned, but the network has no variance channels",
              "the scheduler_config.json and the U-Net do not belong together");
}

// x + sqrt(variance)·z, the variance as variance_type says (Ho et al. 2020, §3.2; Nichol & Dhariwal 2021, eq. 15).
Tensor add_deviation(const ScheduleSpec& spec, const Tensor& x, const Posterior& q, const Tensor& learned,
                     const Tensor& z) {
  const double small = std::max(q.variance, 1e-20);  // the last step's is 0, and its logarithm is taken
  switch (spec.variance_type) {
    case VarianceType::kFixedSmall:
    case VarianceType::kFixedSmallLog:
      return x + std::sqrt(small) * z;
    case VarianceType::kFixedLarge:
    // diffusers takes the square root of log β here, NaN; what Glide means by it is β.
    case VarianceType::kFixedLargeLog:
      return x + std::sqrt(q.beta) * z;
    case VarianceType::kLearned:
      return x + required(spec, learned).sqrt() * z;
    case VarianceType::kLearnedRange: {
      const Tensor fraction = (required(spec, learned) + 1) / 2;
      return x + at::exp(0.5 * (fraction * std::log(q.beta) + (1 - fraction) * std::log(small))) * z;
    }
  }
  throw std::logic_error("unknown variance type");
}

Tensor ddpm(Run& run, Tensor x) {
  for (std::size_t i = run.begin; i < run.end; ++i) {
    const auto& [from, to] = run.legs[i];
    const Posterior q = posterior(from.alpha * from.alpha, to.alpha * to.alpha);
    const Prediction p = run.predict(x, i);
    x = q.x0_coefficient * p.x0 + q.x_coefficient * x;  // eq. 7
    // Noise stops at t = 0, not at the last step: with an offset or trailing spacing the last step draws as well.
    if (from.t > 0) x = add_deviation(run.spec, x, q, p.variance, run.draw(x));
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_ddpm(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "DDPMScheduler", Schedules::kTimesteps);
  const Plan plan = timestep_plan(spec, whole_timesteps(spec, options.steps), 1.0);
  return std::make_unique<BoundSampler>(spec, plan, ddpm, 0, options);
}

}  // namespace easel::diffusion
