#pragma once

namespace easel::diffusion {

// q(x_{t−1} | x_t, x0) = N(x0_coefficient·x0 + x_coefficient·x_t, variance) between any two timesteps of the chain:
// Ho et al. 2020, eq. 6 and 7, with α_t = ᾱ_t/ᾱ_{t−1} and β_t = 1 − α_t.
struct Posterior {
  double beta;
  double x0_coefficient;
  double x_coefficient;
  double variance;  // β̃_t
};

Posterior posterior(double alpha_bar, double alpha_bar_prev);

}  // namespace easel::diffusion
