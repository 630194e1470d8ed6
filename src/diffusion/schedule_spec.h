// A scheduler_config.json as one sampler class reads it: the file's fields over the class's own defaults.
#pragma once

#include "easel/diffusion.h"

namespace easel::diffusion {

enum class BetaSchedule { kLinear, kScaledLinear, kSquaredCosCapV2, kSigmoid, kLaplace };
enum class TimestepSpacing { kLeading, kLinspace, kTrailing };
enum class VarianceType { kFixedSmall, kFixedSmallLog, kFixedLarge, kFixedLargeLog, kLearned, kLearnedRange };
enum class SigmaInterpolation { kLinear, kLogLinear };

// A field the class does not have keeps the value given here, which means "off".
struct ScheduleSpec {
  std::string where;  // for messages
  std::string class_name;

  int64_t num_train_timesteps = 1000;
  double beta_start = 0, beta_end = 0;
  BetaSchedule beta_schedule = BetaSchedule::kLinear;
  std::vector<double> trained_betas;  // empty: from beta_schedule
  bool rescale_betas_zero_snr = false;

  TimestepSpacing timestep_spacing = TimestepSpacing::kLeading;
  int64_t steps_offset = 0;
  PredictionType prediction = PredictionType::kEpsilon;

  bool set_alpha_to_one = false;                           // DDIM, PNDM: ᾱ before t = 0 is 1, else ᾱ_0
  bool skip_prk_steps = false;                             // PNDM
  VarianceType variance_type = VarianceType::kFixedSmall;  // DDPM

  bool clip_sample = false;  // DDPM, DDIM
  double clip_sample_range = 1.0;
  bool thresholding = false;
  double dynamic_thresholding_ratio = 0.995;
  double sample_max_value = 1.0;

  SigmaInterpolation interpolation = SigmaInterpolation::kLinear;  // Euler, and the rest of this block
  bool use_karras_sigmas = false;
  bool use_exponential_sigmas = false;
  std::optional<double> sigma_min, sigma_max;
  bool continuous_timesteps = false;
  bool final_sigma_min = false;  // the last sigma is that of t = 0 instead of 0
};

// Throws Error(kFile) for values the class cannot honour and for a num_train_timesteps that trained_betas contradicts.
ScheduleSpec read_spec(const SchedulerConfig& config, const std::string& class_name);

// The fields diffusers 0.42.1's class has, with the defaults of its constructor; null when the table has no such class.
const json& class_defaults(const std::string& class_name);

}  // namespace easel::diffusion
