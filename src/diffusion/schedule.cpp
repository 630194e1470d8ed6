#include "diffusion/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace easel::diffusion {

std::vector<double> linspace(double first, double last, int64_t n) {
  std::vector<double> values(n);
  const double step = n > 1 ? (last - first) / static_cast<double>(n - 1) : 0.0;
  for (int64_t i = 0; i < n; ++i) values[i] = first + static_cast<double>(i) * step;
  if (n > 1) values.back() = last;
  return values;
}

namespace {

// Half to even, as np.round: std::nearbyint under the default rounding mode.
double round_half_even(double x) { return std::nearbyint(x); }

// Nichol & Dhariwal 2021, eq. 17 (s = 0.008).
double cosine_alpha_bar(double u) {
  const double c = std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2);
  return c * c;
}

// diffusers' betas_for_alpha_bar(…, "laplace"), ᾱ from a log-SNR with a Laplace density.
double laplace_alpha_bar(double u) {
  const double log_snr = -0.5 * std::copysign(1.0, 0.5 - u) * std::log(1 - 2 * std::abs(0.5 - u) + 1e-6);
  const double snr = std::exp(log_snr);
  return std::sqrt(snr / (1 + snr));
}

// β_t = 1 − ᾱ_t/ᾱ_{t−1}, at most 0.999 to avoid a singularity at the end (Nichol & Dhariwal 2021, §3.2).
std::vector<double> betas_for(double (*alpha_bar)(double), int64_t n) {
  std::vector<double> values(n);
  for (int64_t i = 0; i < n; ++i) {
    const double u = static_cast<double>(i) / static_cast<double>(n);
    const double next = static_cast<double>(i + 1) / static_cast<double>(n);
    values[i] = std::min(1 - alpha_bar(next) / alpha_bar(u), 0.999);
  }
  return values;
}

std::vector<double> as_doubles(const Tensor& x) {
  const Tensor values = x.to(at::kDouble).contiguous();
  return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
}

std::vector<double> betas_by_schedule(const ScheduleSpec& spec) {
  const int64_t n = spec.num_train_timesteps;
  switch (spec.beta_schedule) {
    case BetaSchedule::kLinear:
      return as_doubles(at::linspace(spec.beta_start, spec.beta_end, n, at::kFloat));
    case BetaSchedule::kScaledLinear:  // Rombach et al. 2022: linear in sqrt(β)
      return as_doubles(at::linspace(std::sqrt(spec.beta_start), std::sqrt(spec.beta_end), n, at::kFloat).square());
    case BetaSchedule::kSquaredCosCapV2:
      return betas_for(cosine_alpha_bar, n);
    case BetaSchedule::kLaplace:
      return betas_for(laplace_alpha_bar, n);
    case BetaSchedule::kSigmoid: {
      std::vector<double> values = linspace(-6, 6, n);
      for (double& value : values) value = spec.beta_start + (spec.beta_end - spec.beta_start) / (1 + std::exp(-value));
      return values;
    }
  }
  throw std::logic_error("unknown beta schedule");
}

}  // namespace

std::vector<double> betas(const ScheduleSpec& spec) {
  std::vector<double> values = spec.trained_betas.empty() ? betas_by_schedule(spec) : spec.trained_betas;
  // Models were trained on float32 betas, so torch computes them here too. Near β = 0.999 the rounding is visible: 1 −
  // β moves by 3e-5 of itself.
  for (double& value : values) value = static_cast<float>(value);
  return values;
}

std::vector<double> alphas_cumprod(const ScheduleSpec& spec) {
  std::vector<double> alpha_bar = betas(spec);
  double product = 1.0;
  for (double& value : alpha_bar) value = product *= 1.0 - value;
  if (!spec.rescale_betas_zero_snr) return alpha_bar;

  // Lin et al. 2023, algorithm 1: shift sqrt(ᾱ) so that the last is 0, scale so that the first stays.
  const double first = std::sqrt(alpha_bar.front()), last = std::sqrt(alpha_bar.back());
  for (double& value : alpha_bar) {
    const double root = (std::sqrt(value) - last) * first / (first - last);
    value = root * root;
  }
  return alpha_bar;
}

void check_steps(const ScheduleSpec& spec, int n) {
  if (n < 1) throw Error(ErrorKind::kUsage, "--steps " + std::to_string(n) + ": at least 1 step is needed");
  if (n > spec.num_train_timesteps)
    throw Error(ErrorKind::kUsage, "--steps " + std::to_string(n) + ": the model was trained with " +
                                       std::to_string(spec.num_train_timesteps) +
                                       " timesteps, more steps than that cannot be taken");
}

namespace {

// np.arange(first, 0, −T/n), rounded, less 1. It advances by the difference of its first two values: for 62 of the
// 1,000 step counts (61, 103, 121, …) rounding makes it n + 1 long, and diffusers ends on t = −1, which reads ᾱ_{T−1}:
// the picture becomes noise. Here there are never more than n.
std::vector<double> trailing_timesteps(double first, double ratio, int n) {
  const double delta = (first - ratio) - first;
  std::vector<double> t;
  for (int i = 0; i < n && first + i * delta > 0; ++i) t.push_back(round_half_even(first + i * delta) - 1);
  return t;
}

// λ_t = log(α_t/σ_t) falls with t; those below the limit are left out (DPM-Solver's clipping for cosine schedules).
int64_t timesteps_not_clipped(const ScheduleSpec& spec) {
  const std::vector<double> sigmas = training_sigmas(spec);
  int64_t kept = 0;
  for (const double sigma : sigmas) kept += -std::log(sigma) >= spec.lambda_min_clipped;
  return kept;
}

}  // namespace

std::vector<double> spaced_timesteps(const ScheduleSpec& spec, int n, bool rounded) {
  const int64_t train = spec.num_train_timesteps;
  check_steps(spec, n);
  std::vector<double> t(n);
  switch (spec.timestep_spacing) {
    case TimestepSpacing::kLinspace:
      t = linspace(0, static_cast<double>(train - 1), n);
      std::reverse(t.begin(), t.end());
      for (double& value : t) value = rounded ? round_half_even(value) : value;
      break;
    case TimestepSpacing::kLeading:
      for (int64_t i = 0; i < n; ++i) t[i] = static_cast<double>((n - 1 - i) * (train / n) + spec.steps_offset);
      break;
    case TimestepSpacing::kTrailing:
      t = trailing_timesteps(static_cast<double>(train), static_cast<double>(train) / n, n);
      break;
  }
  return t;
}

std::vector<double> solver_timesteps(const ScheduleSpec& spec, int n) {
  check_steps(spec, n);
  const int64_t train = spec.num_train_timesteps, last = timesteps_not_clipped(spec);
  if (last < 1)
    throw Error(ErrorKind::kFile, spec.where + ": lambda_min_clipped is " + plain(spec.lambda_min_clipped) +
                                      ": no timestep of this model is that clean");
  std::vector<double> t(n);
  switch (spec.timestep_spacing) {
    case TimestepSpacing::kLinspace: {
      const std::vector<double> points = linspace(0, static_cast<double>(last - 1), n + 1);
      for (int i = 0; i < n; ++i) t[i] = round_half_even(points[n - i]);
      break;
    }
    case TimestepSpacing::kLeading:
      for (int i = 0; i < n; ++i) t[i] = static_cast<double>((n - i) * (last / (n + 1)) + spec.steps_offset);
      break;
    case TimestepSpacing::kTrailing:
      t = trailing_timesteps(static_cast<double>(last), static_cast<double>(train) / n, n);
      break;
  }
  return t;
}

std::vector<double> distilled_timesteps(const ScheduleSpec& spec, int n) {
  check_steps(spec, n);
  const int64_t known = spec.original_inference_steps;
  if (known > spec.num_train_timesteps)
    throw Error(ErrorKind::kFile, spec.where + ": original_inference_steps is " + std::to_string(known) +
                                      ": the model was trained with " + std::to_string(spec.num_train_timesteps) +
                                      " timesteps");
  if (n > known)
    throw Error(ErrorKind::kUsage,
                "--steps " + std::to_string(n) + ": this sampler walks the " + std::to_string(known) +
                    " timesteps that such models are distilled on (original_inference_steps)",
                "take fewer --steps, 4 to 8 are usual");
  const int64_t stride = spec.num_train_timesteps / known;
  const double skip = static_cast<double>(known) / n;
  std::vector<double> t(n);
  for (int i = 0; i < n; ++i) {
    const auto index = static_cast<int64_t>(std::floor(i * skip));
    t[i] = static_cast<double>((known - index) * stride - 1);
  }
  return t;
}

double interpolate(const std::vector<double>& values, double t) {
  const double last = static_cast<double>(values.size() - 1);
  if (t <= 0) return values.front();
  if (t >= last) return values.back();
  const auto low = static_cast<std::size_t>(t);
  return values[low] + (t - static_cast<double>(low)) * (values[low + 1] - values[low]);
}

std::vector<double> training_sigmas(const ScheduleSpec& spec) {
  std::vector<double> sigmas = alphas_cumprod(spec);
  // With zero-terminal SNR the last sigma would be infinite; diffusers puts the smallest float16 there.
  if (spec.rescale_betas_zero_snr) sigmas.back() = std::ldexp(1.0, -24);
  for (double& value : sigmas) value = std::sqrt((1 - value) / value);
  return sigmas;
}

double sigma_to_t(double sigma, const std::vector<double>& training_sigmas) {
  // training_sigmas ascend; the bracket [low, low + 1] around sigma
  const auto above = std::upper_bound(training_sigmas.begin(), training_sigmas.end(), sigma);
  const std::ptrdiff_t count = static_cast<std::ptrdiff_t>(training_sigmas.size());
  const std::ptrdiff_t low = std::clamp<std::ptrdiff_t>(above - training_sigmas.begin() - 1, 0, count - 2);
  const double log_low = std::log(training_sigmas[low]), log_high = std::log(training_sigmas[low + 1]);
  const double w = (std::log(std::max(sigma, 1e-10)) - log_low) / (log_high - log_low);
  return static_cast<double>(low) + std::clamp(w, 0.0, 1.0);
}

double t_to_sigma(double t, const std::vector<double>& training_sigmas) {
  std::vector<double> logs = training_sigmas;
  for (double& value : logs) value = std::log(value);
  return std::exp(interpolate(logs, t));
}

}  // namespace easel::diffusion
