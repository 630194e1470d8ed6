// σ-schedules: the sigmas of n steps and the timestep each of them is told to the network as.
#pragma once

#include "diffusion/schedule.h"

namespace easel::diffusion {

// How a diffusers class turns a schedule into steps.
struct SigmaHabits {
  // DPM-Solver, UniPC, DEIS, SA-Solver: solver_timesteps(), and karras, exponential and beta between the ends of the
  // training sigmas. Else spaced_timesteps(), and between those of the steps.
  bool solver = false;
  enum class Round { kNever, kKarras, kAlways } rounded = Round::kNever;  // timesteps told to the network
  // The last step, which ends at 0 unless final_sigmas_type says sigma_min: DEIS and SA-Solver end their own spacing on
  // the sigma of t = 0 and repeat the last sigma of karras, exponential and beta; UniPC's sigma_min does so too.
  bool repeats_last = false;
  bool never_zero = false;
};

struct SigmaSchedule {
  std::vector<double> t;      // one per step
  std::vector<double> sigma;  // one more; sigma[i] → sigma[i + 1] is step i
};

// Throws Error(kUsage) for numbers of steps and lists that give no falling sigmas.
SigmaSchedule sigma_schedule(const ScheduleSpec& spec, int n, const SigmaHabits& habits);

// The whole timesteps of n steps for variance-preserving samplers, descending, under the rules they can walk.
std::vector<double> whole_timesteps(const ScheduleSpec& spec, int n);

// n values from max down to min.
std::vector<double> karras_sigmas(double min, double max, int n, double rho = 7.0);       // Karras et al. 2022, eq. 5
std::vector<double> exponential_sigmas(double min, double max, int n, double rho = 1.0);  // log σ a power of the way
std::vector<double> beta_sigmas(double min, double max, int n);        // Lee et al. 2024: quantiles of Beta(0.6, 0.6)
std::vector<double> kl_optimal_sigmas(double min, double max, int n);  // Sabour et al. 2024, §3.2: tan of even angles

// x with I_x(a, b) = p, the quantile of the Beta distribution.
double beta_quantile(double p, double a, double b);

}  // namespace easel::diffusion
