// Noise schedules: betas → ᾱ → σ in float64, and which timesteps a number of steps visits.
#pragma once

#include "diffusion/schedule_spec.h"

namespace easel::diffusion {

// β_1…β_T of the forward process (index 0 is β_1), before any rescaling.
std::vector<double> betas(const ScheduleSpec& spec);

// ᾱ_t = ∏ (1 − β_s) (Ho et al. 2020, below eq. 3), t = 0…T−1 as diffusers counts; with rescale_betas_zero_snr the last
// is exactly 0 (Lin et al. 2023, algorithm 1).
std::vector<double> alphas_cumprod(const ScheduleSpec& spec);

// σ_t = sqrt((1 − ᾱ_t)/ᾱ_t), ascending in t.
std::vector<double> training_sigmas(const ScheduleSpec& spec);

// Throws Error(kUsage) for n outside [1, num_train_timesteps].
void check_steps(const ScheduleSpec& spec, int n);

// The timesteps of n steps by timestep_spacing, descending (Lin et al. 2023, table 2). `rounded`: linspace gives whole
// timesteps, as the variance-preserving samplers need, else fractions, as the k-diffusion ones.
std::vector<double> spaced_timesteps(const ScheduleSpec& spec, int n, bool rounded);

// The same in the DPM-Solver classes: whole timesteps, n + 1 points of which the last, t = 0, is left out, and nothing
// noisier than lambda_min_clipped.
std::vector<double> solver_timesteps(const ScheduleSpec& spec, int n);

// n of the timesteps that a consistency model (LCM, TCD) was distilled on. Throws Error(kUsage) for more than there
// are.
std::vector<double> distilled_timesteps(const ScheduleSpec& spec, int n);

// n evenly spaced numbers, both ends included; the first alone for n = 1 (np.linspace).
std::vector<double> linspace(double first, double last, int64_t n);

// np.interp(t, 0…n−1, values): linear, clamped to the ends.
double interpolate(const std::vector<double>& values, double t);

// The fractional t whose training sigma is `sigma`, linear in log σ, clamped to the ends.
double sigma_to_t(double sigma, const std::vector<double>& training_sigmas);
// The inverse.
double t_to_sigma(double t, const std::vector<double>& training_sigmas);

}  // namespace easel::diffusion
