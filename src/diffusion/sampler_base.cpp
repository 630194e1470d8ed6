#include "diffusion/sampler_base.h"

#include <algorithm>
#include <cmath>

namespace easel {
namespace diffusion {

ScheduleSpec spec_for(const SchedulerConfig& config, const SamplerOptions& options, const char* class_name) {
  if (!(options.eta >= 0 && options.eta <= 1))
    throw Error(ErrorKind::kUsage, "--eta " + json(options.eta).dump() + ": expected a number from 0 to 1");
  ScheduleSpec spec = read_spec(config, class_name);
  spec.prediction = options.prediction.value_or(spec.prediction);
  return spec;
}

VariancePreservingSampler::VariancePreservingSampler(ScheduleSpec spec, const std::vector<double>& timesteps)
    : SpecSampler(std::move(spec)), alpha_bar_(alphas_cumprod(spec_)) {
  for (const double value : timesteps) {
    const auto t = static_cast<int64_t>(value);
    if (t >= spec_.num_train_timesteps)  // diffusers: IndexError in the first step
      throw Error(ErrorKind::kUsage,
                  "with steps_offset " + std::to_string(spec_.steps_offset) + " these steps start at timestep " +
                      std::to_string(t) + ", the model knows 0 to " + std::to_string(spec_.num_train_timesteps - 1),
                  "take fewer --steps");
    const double bar = alpha_bar(t);
    if (bar == 0 && spec_.prediction == PredictionType::kEpsilon)  // diffusers: NaN
      throw Error(ErrorKind::kFile,
                  spec_.where + ": rescale_betas_zero_snr is true and prediction_type epsilon: at timestep " +
                      std::to_string(t) + " the picture is pure noise, and eps says nothing of it",
                  "zero-terminal SNR needs v_prediction or sample (--prediction)");
    timesteps_.push_back(t);
    steps_.push_back({value, std::sqrt(bar), std::sqrt(1 - bar)});
  }
}

SigmaSampler::SigmaSampler(ScheduleSpec spec, int n) : SpecSampler(std::move(spec)) {
  SigmaSchedule schedule = sigma_schedule(spec_, n);
  sigma_ = std::move(schedule.sigma);
  init_scale_ = schedule.init_scale;
  for (int i = 0; i < n; ++i) steps_.push_back({schedule.t[i], 1.0, sigma_[i]});
}

namespace {

// s is a percentile of |x0| in each picture, at least 1: x0 is clamped to [−s, s] and divided by s.
Tensor dynamically_thresholded(const ScheduleSpec& spec, const Tensor& x0) {
  const Tensor flat = x0.to(at::kFloat).flatten(1);  // [B, C·H·W]
  Tensor s = at::quantile(flat.abs(), spec.dynamic_thresholding_ratio, /*dim=*/1, /*keepdim=*/true);
  s = s.clamp(1.0, spec.sample_max_value);
  return (at::clamp(flat, -s, s) / s).view(x0.sizes()).to(x0.scalar_type());
}

}  // namespace

Tensor clipped(const ScheduleSpec& spec, const Tensor& x0) {
  if (spec.thresholding) return dynamically_thresholded(spec, x0);
  if (spec.clip_sample) return x0.clamp(-spec.clip_sample_range, spec.clip_sample_range);
  return x0;
}

}  // namespace diffusion

Tensor add_noise(const SchedulerConfig& config, const Tensor& x0, const Tensor& noise, int64_t t) {
  const diffusion::ScheduleSpec spec = diffusion::read_spec(config, "DDPMScheduler");
  if (t < 0 || t >= spec.num_train_timesteps)
    throw Error(ErrorKind::kUsage, "timestep " + std::to_string(t) + ": the model knows 0 to " +
                                       std::to_string(spec.num_train_timesteps - 1));
  const double alpha_bar = diffusion::alphas_cumprod(spec)[t];
  return std::sqrt(alpha_bar) * x0 + std::sqrt(1 - alpha_bar) * noise;
}

}  // namespace easel
