#include "diffusion/sigma_schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace easel::diffusion {

std::vector<double> karras_sigmas(double min, double max, int n, double rho) {
  const double low = std::pow(min, 1 / rho), high = std::pow(max, 1 / rho);
  std::vector<double> sigmas = linspace(0, 1, n);
  for (double& value : sigmas) value = std::pow(high + value * (low - high), rho);
  return sigmas;
}

std::vector<double> exponential_sigmas(double min, double max, int n, double rho) {
  std::vector<double> sigmas = linspace(1, 0, n);
  for (double& value : sigmas) value = std::exp(std::log(min) + std::pow(value, rho) * (std::log(max) - std::log(min)));
  return sigmas;
}

std::vector<double> beta_sigmas(double min, double max, int n) {
  constexpr double kShape = 0.6;
  std::vector<double> sigmas = linspace(1, 0, n);
  for (double& value : sigmas) value = min + beta_quantile(value, kShape, kShape) * (max - min);
  return sigmas;
}

std::vector<double> kl_optimal_sigmas(double min, double max, int n) {
  std::vector<double> sigmas = linspace(std::atan(max), std::atan(min), n);
  for (double& value : sigmas) value = std::tan(value);
  return sigmas;
}

namespace {

// "Align Your Steps", Sabour, Fidler & Kreis 2024, the tables of the project's page for 10 steps; diffusers'
// AysSchedules.
constexpr std::array kAysSigmas = {14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029};
constexpr std::array kAysXlSigmas = {14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029};
constexpr std::array kAysTimesteps = {999., 850., 736., 645., 545., 455., 343., 233., 124., 24.};
constexpr std::array kAysXlTimesteps = {999., 845., 730., 587., 443., 310., 193., 116., 53., 13.};

// Other numbers of steps: linear in log σ between the 11, as the authors advise; the last makes place for 0.
std::vector<double> ays_sigmas(const ScheduleSpec& spec, int n) {
  const auto& table = spec.sigma_rule == SigmaRule::kAysSdxl ? kAysXlSigmas : kAysSigmas;
  std::vector<double> logs(table.begin(), table.end());
  for (double& value : logs) value = std::log(value);
  std::vector<double> sigmas = linspace(0, static_cast<double>(logs.size() - 1), n + 1);
  for (double& value : sigmas) value = std::exp(interpolate(logs, value));
  sigmas.pop_back();
  return sigmas;
}

std::vector<double> sgm_uniform_timesteps(const ScheduleSpec& spec, int n) {
  std::vector<double> t = linspace(static_cast<double>(spec.num_train_timesteps - 1), 0, n + 1);
  t.pop_back();
  return t;
}

std::vector<double> simple_timesteps(const ScheduleSpec& spec, int n) {
  const double stride = static_cast<double>(spec.num_train_timesteps) / n;
  std::vector<double> t(n);
  for (int i = 0; i < n; ++i) t[i] = static_cast<double>(spec.num_train_timesteps - 1) - std::floor(i * stride);
  return t;
}

std::vector<double> interpolated(const std::vector<double>& training, const std::vector<double>& t) {
  std::vector<double> sigmas;
  for (const double value : t) sigmas.push_back(interpolate(training, value));
  return sigmas;
}

// The sigmas of the timesteps that timestep_spacing visits, fractions included.
SigmaSchedule spaced(const ScheduleSpec& spec, int n, const SigmaHabits& habits, const std::vector<double>& training) {
  SigmaSchedule schedule;
  schedule.t = habits.solver ? solver_timesteps(spec, n) : spaced_timesteps(spec, n, /*rounded=*/false);
  schedule.sigma = interpolated(training, schedule.t);
  // n + 1 values for n timesteps: the last step ends on sigma_min and final_sigmas_type has no say (as in diffusers).
  if (spec.interpolation == SigmaInterpolation::kLogLinear)
    schedule.sigma = exponential_sigmas(training.front(), training.back(), n + 1);
  return schedule;
}

std::vector<double> sigmas_by_rule(const ScheduleSpec& spec, int n, const SigmaHabits& habits,
                                   const std::vector<double>& training) {
  double min = training.front(), max = training.back();
  if (!habits.solver && spec.sigma_rule <= SigmaRule::kBeta && spec.sigma_rule != SigmaRule::kPolyexponential) {
    const SigmaSchedule own = spaced(spec, n, habits, training);
    min = own.sigma.back(), max = own.sigma.front();
  }
  min = spec.sigma_min.value_or(min), max = spec.sigma_max.value_or(max);
  switch (spec.sigma_rule) {
    case SigmaRule::kKarras:
      return karras_sigmas(min, max, n, spec.rho.value_or(7.0));
    case SigmaRule::kExponential:
    case SigmaRule::kLu:  // evenly spaced in λ = −log σ
      return exponential_sigmas(min, max, n);
    case SigmaRule::kPolyexponential:
      return exponential_sigmas(min, max, n, spec.rho.value_or(1.0));
    case SigmaRule::kBeta:
      return beta_sigmas(min, max, n);
    case SigmaRule::kKlOptimal:
      return kl_optimal_sigmas(min, max, n);
    case SigmaRule::kAys:
    case SigmaRule::kAysSdxl:
      return ays_sigmas(spec, n);
    default:
      throw std::logic_error("not a rule of sigmas");
  }
}

SigmaSchedule falling(const ScheduleSpec& spec, int n, const SigmaHabits& habits, const std::vector<double>& training) {
  SigmaSchedule schedule;
  switch (spec.sigma_rule) {
    case SigmaRule::kSpacing:
      return spaced(spec, n, habits, training);
    case SigmaRule::kSgmUniform:  // k-diffusion interpolates log σ
      schedule.t = sgm_uniform_timesteps(spec, n);
      for (const double t : schedule.t) schedule.sigma.push_back(t_to_sigma(t, training));
      return schedule;
    case SigmaRule::kSimple:
      schedule.t = simple_timesteps(spec, n);
      schedule.sigma = interpolated(training, schedule.t);
      return schedule;
    case SigmaRule::kGivenTimesteps:
      schedule.t = spec.timesteps;
      schedule.sigma = interpolated(training, schedule.t);
      return schedule;
    case SigmaRule::kGivenSigmas:
      schedule.sigma = {spec.sigmas.begin(), spec.sigmas.end() - 1};
      break;
    default:
      schedule.sigma = sigmas_by_rule(spec, n, habits, training);
  }
  for (const double sigma : schedule.sigma) schedule.t.push_back(sigma_to_t(sigma, training));
  return schedule;
}

// Whether the float32 logarithm of the float32 largest sigma lies above its own: diffusers finds it between T − 2 and T
// − 1 then, and cuts to T − 2. So it is with Stable Diffusion's betas, and not with DDPM's.
bool falls_short_in_float32(const ScheduleSpec& spec) {
  const Tensor beta = at::tensor(betas(spec), at::kDouble).to(at::kFloat);
  const float product = at::cumprod(1 - beta, 0)[-1].item<float>();
  const float alpha_bar = spec.rescale_betas_zero_snr ? std::ldexp(1.0f, -24) : product;
  const float sigma = std::sqrt((1 - alpha_bar) / alpha_bar);
  return static_cast<double>(std::log(sigma)) > std::log(static_cast<double>(sigma));
}

// Round::kAlways: diffusers rounds karras and lu to the nearest and cuts exponential and beta, which it hands over as
// int64; a cosine schedule's karras is cut as well in DPMSolverMultistep.
double whole(const ScheduleSpec& spec, double t) {
  const SigmaRule rule = spec.sigma_rule;
  const bool cosine =
      spec.class_name == "DPMSolverMultistepScheduler" && spec.beta_schedule == BetaSchedule::kSquaredCosCapV2;
  const bool cut = rule == SigmaRule::kExponential || rule == SigmaRule::kBeta ||
                   (cosine && (rule == SigmaRule::kKarras || rule == SigmaRule::kLu));
  if (!cut) return std::nearbyint(t);
  constexpr double kRounding = 1e-6;
  const auto last = static_cast<double>(spec.num_train_timesteps - 1);
  if (t > last - kRounding) return falls_short_in_float32(spec) ? last - 1 : last;
  return std::floor(t + kRounding);
}

double last_sigma(const ScheduleSpec& spec, const SigmaHabits& habits, const SigmaSchedule& schedule,
                  const std::vector<double>& training) {
  if (spec.sigma_rule == SigmaRule::kGivenSigmas) return spec.sigmas.back();
  const bool diffusers_rule = spec.sigma_rule == SigmaRule::kSpacing || spec.sigma_rule == SigmaRule::kKarras ||
                              spec.sigma_rule == SigmaRule::kExponential || spec.sigma_rule == SigmaRule::kBeta;
  const bool stops_early = spec.final_sigma_min || (habits.never_zero && diffusers_rule);
  if (!stops_early) return 0.0;
  return habits.repeats_last && spec.sigma_rule != SigmaRule::kSpacing ? schedule.sigma.back() : training.front();
}

void check_falling(const SigmaSchedule& schedule, const SigmaHabits& habits, int n) {
  // Euler's final_sigmas_type "sigma_min" ends where linspace spacing already is: a last step of length 0.
  const bool may_stand = habits.repeats_last || !habits.solver;
  for (int i = 0; i < n; ++i) {
    const bool last = i + 1 == n;
    const double from = schedule.sigma[i], to = schedule.sigma[i + 1];
    if (from > to || (last && from == to && may_stand)) continue;
    throw Error(ErrorKind::kUsage,
                "step " + std::to_string(i + 1) + " of " + std::to_string(n) + " would go from sigma " + plain(from) +
                    " to " + plain(to) + ": sigmas have to fall",
                "take fewer --steps or another --scheduler");
  }
}

}  // namespace

SigmaSchedule sigma_schedule(const ScheduleSpec& spec, int n, const SigmaHabits& habits) {
  const std::vector<double> training = training_sigmas(spec);
  SigmaSchedule schedule = falling(spec, n, habits, training);
  n = static_cast<int>(schedule.t.size());
  schedule.sigma.push_back(last_sigma(spec, habits, schedule, training));
  check_falling(schedule, habits, n);
  using Round = SigmaHabits::Round;
  const bool rounds =
      habits.rounded == Round::kAlways || (habits.rounded == Round::kKarras && spec.sigma_rule == SigmaRule::kKarras);
  for (double& t : schedule.t) {
    if (rounds) t = whole(spec, t);
  }
  if (spec.continuous_timesteps && spec.prediction == PredictionType::kVPrediction) {
    for (int i = 0; i < n; ++i) schedule.t[i] = 0.25 * std::log(schedule.sigma[i]);  // EDM's c_noise
  }
  return schedule;
}

std::vector<double> whole_timesteps(const ScheduleSpec& spec, int n) {
  std::vector<double> t;
  switch (spec.sigma_rule) {
    case SigmaRule::kSgmUniform:
      t = sgm_uniform_timesteps(spec, n);
      break;
    case SigmaRule::kSimple:
      t = simple_timesteps(spec, n);
      break;
    case SigmaRule::kAys:
    case SigmaRule::kAysSdxl: {
      const auto& table = spec.sigma_rule == SigmaRule::kAysSdxl ? kAysXlTimesteps : kAysTimesteps;
      if (n == static_cast<int>(table.size())) return {table.begin(), table.end()};
      const std::vector<double> training = training_sigmas(spec);
      for (const double sigma : ays_sigmas(spec, n)) t.push_back(sigma_to_t(sigma, training));
      break;
    }
    case SigmaRule::kGivenTimesteps:
      return spec.timesteps;
    default:
      return spaced_timesteps(spec, n, /*rounded=*/true);
  }
  for (double& value : t) value = std::nearbyint(value);
  return t;
}

}  // namespace easel::diffusion
