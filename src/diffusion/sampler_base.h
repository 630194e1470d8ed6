// What the samplers share: their spec, their steps, and clipping of the predicted x0.
#pragma once

#include "diffusion/schedule.h"

namespace easel::diffusion {

using OnStep = std::function<void(int, const Tensor&)>;

// The file over the class's defaults, with the request's prediction type; Error(kUsage) for an eta outside [0, 1].
ScheduleSpec spec_for(const SchedulerConfig& config, const SamplerOptions& options, const char* class_name);

class SpecSampler : public Sampler {
 public:
  double init_scale() const override { return init_scale_; }
  PredictionType prediction() const override { return spec_.prediction; }
  std::vector<Step> steps() const override { return steps_; }

 protected:
  explicit SpecSampler(ScheduleSpec spec) : spec_(std::move(spec)) {}

  // Noise in x's dtype and on its device.
  static Tensor draw(const NoiseSource& noise, const Tensor& x) { return noise(x.sizes()).to(x.options()); }
  static void report(const OnStep& on_step, std::size_t i, const Tensor& x) {
    if (on_step) on_step(static_cast<int>(i), x);
  }

  ScheduleSpec spec_;
  std::vector<Step> steps_;
  double init_scale_ = 1.0;
};

// DDPM, DDIM, PNDM: ᾱ_t by timestep, x = sqrt(ᾱ)·x0 + sqrt(1 − ᾱ)·eps.
class VariancePreservingSampler : public SpecSampler {
 protected:
  // `final_alpha_bar` is ᾱ before t = 0.
  VariancePreservingSampler(ScheduleSpec spec, const std::vector<double>& timesteps);

  // ᾱ of t, or of "before the first timestep" where t < 0.
  double alpha_bar(int64_t t) const { return t < 0 ? final_alpha_bar_ : alpha_bar_[t]; }

  std::vector<int64_t> timesteps_;  // one per network call
  std::vector<double> alpha_bar_;
  double final_alpha_bar_ = 1.0;
};

// Euler and its kin: alpha = 1, sigma_[i] → sigma_[i + 1].
class SigmaSampler : public SpecSampler {
 protected:
  SigmaSampler(ScheduleSpec spec, int n);

  std::vector<double> sigma_;
};

// The sampler's own clipping of x0: dynamic thresholding (Saharia et al. 2022, §2.3), else clip_sample, else nothing.
Tensor clipped(const ScheduleSpec& spec, const Tensor& x0);

}  // namespace easel::diffusion
