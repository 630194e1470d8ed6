// The Beta distribution's quantile: the regularised incomplete beta function by its continued fraction (Abramowitz &
// Stegun 26.5.8, evaluated as Lentz 1976), inverted by bisection.
#include <cmath>
#include <limits>

#include "diffusion/sigma_schedule.h"

namespace easel::diffusion {
namespace {

double continued_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300, kPrecision = 1e-16;
  const auto away_from_zero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), fraction = d;
  for (int m = 1; m < 1000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double change = 1;
    for (const double term : {even, odd}) {
      d = 1 / away_from_zero(1 + term * d);
      c = away_from_zero(1 + term / c);
      change = c * d;
      fraction *= change;
    }
    if (std::abs(change - 1) < kPrecision) break;
  }
  return fraction;
}

// I_x(a, b); the fraction converges quickly below the mean, above it the symmetric one does.
double incomplete_beta(double x, double a, double b) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * continued_fraction(x, a, b) / a;
  return 1 - front * continued_fraction(1 - x, b, a) / b;
}

}  // namespace

double beta_quantile(double p, double a, double b) {
  if (p <= 0 || p >= 1) return p <= 0 ? 0 : 1;
  double low = 0, high = 1;
  while (high - low > std::numeric_limits<double>::epsilon() * high) {
    const double middle = (low + high) / 2;
    if (middle == low || middle == high) break;
    (incomplete_beta(middle, a, b) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace easel::diffusion
