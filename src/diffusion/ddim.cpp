// DDIM: "Denoising Diffusion Implicit Models", Song, Meng & Ermon 2021.
#include <algorithm>
#include <cmath>

#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

class Ddim final : public VariancePreservingSampler {
 public:
  Ddim(const ScheduleSpec& spec, int n, double eta)
      : VariancePreservingSampler(spec, spaced_timesteps(spec, n, /*rounded=*/true)),
        stride_(spec.num_train_timesteps / n),
        eta_(eta) {
    final_alpha_bar_ = spec.set_alpha_to_one ? 1.0 : alpha_bar_.front();
  }

  Tensor sample(const Denoiser& denoise, Tensor x, const NoiseSource& noise, const OnStep& on_step) const override {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      const double bar = alpha_bar(timesteps_[i]);
      // The step goes to t − T/n, which linspace and trailing spacing need not visit (as in diffusers).
      const double bar_prev = alpha_bar(timesteps_[i] - stride_);
      const double sigma = eta_ * std::sqrt((1 - bar_prev) / (1 - bar) * (1 - bar / bar_prev));  // eq. 16
      const double direction = std::sqrt(std::max(0.0, 1 - bar_prev - sigma * sigma));

      const Prediction p = denoise(x, steps_[i]);
      // Clipping moves x0 alone: eps stays the network's (diffusers' use_clipped_model_output = False).
      x = std::sqrt(bar_prev) * clipped(spec_, p.x0) + direction * p.eps;  // eq. 12
      if (eta_ > 0) x = x + sigma * draw(noise, x);
      report(on_step, i, x);
    }
    return x;
  }

 private:
  int64_t stride_;
  double eta_;
};

}  // namespace

std::unique_ptr<Sampler> make_ddim(const SchedulerConfig& config, const SamplerOptions& options) {
  return std::make_unique<Ddim>(spec_for(config, options, "DDIMScheduler"), options.steps, options.eta);
}

}  // namespace easel::diffusion
