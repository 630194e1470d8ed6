// Noise schedules: betas → ᾱ → σ in float64, and which timesteps a number of steps visits.
#pragma once

#include "diffusion/schedule_spec.h"

namespace easel::diffusion {

// β_1…β_T of the forward process (index 0 is β_1), before any rescaling.
std::vector<double> betas(const ScheduleSpec& spec);

// ᾱ_t = ∏ (1 − β_s) (Ho et al. 2020, below eq. 3), t = 0…T−1 as diffusers counts; with rescale_betas_zero_snr the last
// is exactly 0 (Lin et al. 2023, algorithm 1).
std::vector<double> alphas_cumprod(const ScheduleSpec& spec);

// The timesteps of n steps, descending (Lin et al. 2023, table 2). `rounded`: linspace gives whole timesteps, as the
// variance-preserving samplers need, else float32 fractions, as the k-diffusion ones.
// Throws Error(kUsage) for n outside [1, num_train_timesteps].
std::vector<double> spaced_timesteps(const ScheduleSpec& spec, int n, bool rounded);

// ---- k-diffusion: x = x0 + σ·noise
// -----------------------------------------------------------------------------------

struct SigmaSchedule {
  std::vector<double> t;      // one per network call
  std::vector<double> sigma;  // at least one more; sigma[i] → sigma[i + 1] is step i
  double init_scale;          // init_noise_sigma
};

// σ_t = sqrt((1 − ᾱ_t)/ᾱ_t), ascending in t.
std::vector<double> training_sigmas(const ScheduleSpec& spec);

SigmaSchedule sigma_schedule(const ScheduleSpec& spec, int n);

// Karras et al. 2022, eq. 5 with ρ = 7; n values from max down to min.
std::vector<double> karras_sigmas(double min, double max, int n);
// Evenly spaced in log σ.
std::vector<double> exponential_sigmas(double min, double max, int n);

// The fractional t whose training sigma is `sigma`, linear in log σ, clamped to the ends.
double sigma_to_t(double sigma, const std::vector<double>& training_sigmas);

// np.interp(t, 0…n−1, values): linear, clamped to the ends.
double interpolate(const std::vector<double>& values, double t);

}  // namespace easel::diffusion
