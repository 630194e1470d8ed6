// Against closed forms rather than another program: the forward process and posterior of Ho et al. 2020, and a Gaussian
// target N(0, s²), whose ideal denoiser is known.
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>

#include "diffusion/ddpm_posterior.h"
#include "diffusion/schedule.h"

namespace easel {
namespace {

constexpr double kTargetDeviation = 0.5;  // s

SchedulerConfig config_of(const json& fields) { return SchedulerConfig::from_json(fields, "test"); }

const json kStableDiffusion = {
    {"beta_start", 0.00085}, {"beta_end", 0.012},      {"beta_schedule", "scaled_linear"}, {"set_alpha_to_one", true},
    {"clip_sample", false},  {"skip_prk_steps", true}, {"prediction_type", "epsilon"}};

// E[x0 | x] = x·α·s²/(α²s² + σ²) for x = α·x0 + σ·eps.
Prediction ideal_denoiser(const Tensor& x, const Step& step) {
  const double s2 = kTargetDeviation * kTargetDeviation;
  const double variance = step.alpha * step.alpha * s2 + step.sigma * step.sigma;
  return {x * (step.alpha * s2 / variance), x * (step.sigma / variance), {}};
}

// ---- DDPM's forward process and posterior -------------------------------------------------------------------------

TEST(ForwardProcess, IsTheChainOfSmallSteps) {
  // eq. 2 applied t times: the mean's factor and the variance of x_t given x_0.
  const SchedulerConfig config = config_of(json::object());
  double factor = 1, variance = 0;
  const Tensor zero = at::zeros({1, 1, 1, 1}, at::kDouble), one = at::ones({1, 1, 1, 1}, at::kDouble);
  for (int t = 0; t < 1000; ++t) {
    const double beta = 1e-4 + (0.02 - 1e-4) * t / 999;
    factor *= std::sqrt(1 - beta);
    variance = (1 - beta) * variance + beta;
    if (t % 111 != 0) continue;
    // Tolerance: betas are float32 numbers, as models were trained on. Seen: 6e-8.
    EXPECT_NEAR(add_noise(config, one, zero, t).item<double>(), factor, 1e-6) << t;
    EXPECT_NEAR(add_noise(config, zero, one, t).item<double>(), std::sqrt(variance), 1e-6) << t;
  }
}

TEST(ForwardProcess, RefusesTimestepsOutsideTheChain) {
  const Tensor x = at::zeros({1, 1, 1, 1});
  for (const int64_t t : {-1, 1000}) {
    try {
      add_noise(config_of(json::object()), x, x, t);
      FAIL() << t;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_NE(std::string(error.what()).find(std::to_string(t)), std::string::npos);
    }
  }
}

TEST(Posterior, IsBayesRule) {
  // q(x_{t−1} | x_t, x_0) ∝ q(x_t | x_{t−1})·q(x_{t−1} | x_0), two Gaussians: precisions add.
  for (const auto& [bar, bar_prev] : std::vector<std::pair<double, double>>{{0.9, 0.95}, {0.01, 0.2}, {0.5, 0.5001}}) {
    const double alpha = bar / bar_prev, beta = 1 - alpha;
    const double variance = 1 / (alpha / beta + 1 / (1 - bar_prev));
    const diffusion::Posterior q = diffusion::posterior(bar, bar_prev);
    EXPECT_NEAR(q.beta, beta, 1e-15);
    EXPECT_NEAR(q.variance, variance, 1e-12);
    EXPECT_NEAR(q.x_coefficient, variance * std::sqrt(alpha) / beta, 1e-12);
    EXPECT_NEAR(q.x0_coefficient, variance * std::sqrt(bar_prev) / (1 - bar_prev), 1e-12);
  }
}

TEST(Posterior, LastStepIsThePrediction) {
  const diffusion::Posterior q = diffusion::posterior(0.9, 1.0);
  EXPECT_NEAR(q.x0_coefficient, 1, 1e-12);
  EXPECT_EQ(q.x_coefficient, 0);
  EXPECT_EQ(q.variance, 0);
}

// ---- Gaussian target, deterministic samplers ----------------------------------------------------------------------

// The probability flow ODE keeps x/√(α²s² + σ²): it ends at s times that of x_T.
double ode_error(const std::string& name, int steps, json fields = kStableDiffusion) {
  const auto sampler = find_sampler(name).make(config_of(fields), {.steps = steps, .eta = 0, .prediction = {}});
  const Tensor x = at::tensor({-2.0, 0.3, 1.0, 3.0}, at::kDouble).view({1, 1, 2, 2}) * sampler->init_scale();
  const Step first = sampler->steps().front();
  const double deviation = std::hypot(first.alpha * kTargetDeviation, first.sigma);
  const Tensor got = sampler->sample(ideal_denoiser, x, nullptr, nullptr);
  return ((got * deviation / (x * kTargetDeviation)) - 1).abs().max().item<double>();
}

TEST(GaussianTarget, EulerConvergesAtFirstOrder) {
  for (const json& schedule : {json::object(), json{{"use_karras_sigmas", true}}}) {
    json fields = kStableDiffusion;
    fields.update(schedule);
    const double coarse = ode_error("euler", 100, fields), fine = ode_error("euler", 200, fields);
    EXPECT_LT(fine, 0.03) << fields;
    EXPECT_NEAR(std::log2(coarse / fine), 1, 0.15) << fields;
  }
}

TEST(GaussianTarget, DdimConvergesAtFirstOrder) {
  const double coarse = ode_error("ddim", 100), fine = ode_error("ddim", 200);
  EXPECT_LT(fine, 0.02);
  EXPECT_NEAR(std::log2(coarse / fine), 1, 0.15);
}

TEST(GaussianTarget, PndmBeatsDdim) {
  for (const bool skip : {true, false}) {
    json fields = kStableDiffusion;
    fields["skip_prk_steps"] = skip;
    EXPECT_LT(ode_error("pndm", 50, fields), 0.3 * ode_error("ddim", 50)) << skip;
  }
}

// ---- Gaussian target, stochastic samplers -------------------------------------------------------------------------

double deviation_reached(const std::string& name, int steps, double eta) {
  const auto sampler =
      find_sampler(name).make(config_of(kStableDiffusion), {.steps = steps, .eta = eta, .prediction = {}});
  at::Generator generator = at::detail::createCPUGenerator(7);
  const NoiseSource noise = [&](at::IntArrayRef shape) { return at::randn(shape, generator); };
  const Step first = sampler->steps().front();
  const Tensor x = noise({1, 1, 200, 200}) * std::hypot(first.alpha * kTargetDeviation, first.sigma);
  const Tensor got = sampler->sample(ideal_denoiser, x, noise, nullptr);
  EXPECT_LT(std::abs(got.mean().item<double>()), 5 * kTargetDeviation / 200);
  return got.std().item<double>();
}

// Every step of the ancestral chain is linear in x on this target, so the deviation it ends with is known: the variance
// through eq. 6 and 7 of Ho et al. 2020, x0 being the ideal denoiser's.
double deviation_of_the_chain(int steps) {
  const double s2 = kTargetDeviation * kTargetDeviation;
  std::vector<double> bars = {1};  // ᾱ from t = −1 on
  double bar = 1;
  for (int t = 0; t < 1000; ++t) {
    const double root = std::sqrt(0.00085) + (std::sqrt(0.012) - std::sqrt(0.00085)) * t / 999;
    bar *= 1 - root * root;
    if (t % (1000 / steps) == 0) bars.push_back(bar);
  }
  double variance = bars.back() * s2 + 1 - bars.back();
  for (std::size_t i = bars.size() - 1; i > 0; --i) {
    const diffusion::Posterior q = diffusion::posterior(bars[i], bars[i - 1]);
    const double x0 = std::sqrt(bars[i]) * s2 / (bars[i] * s2 + 1 - bars[i]);
    const double factor = q.x0_coefficient * x0 + q.x_coefficient;
    variance = factor * factor * variance + q.variance;
  }
  return std::sqrt(variance);
}

// 40,000 numbers: Monte-Carlo error of a deviation 0.35 %; three of these are allowed.
TEST(GaussianTarget, StochasticSamplersReachTheVariance) {
  constexpr double kMonteCarlo = 3 * 0.0035 * kTargetDeviation;
  const double chain = deviation_of_the_chain(500);
  for (const auto& [name, eta] : {std::pair{"ddpm", 0.0}, {"ddim", 1.0}, {"euler_a", 0.0}})
    EXPECT_NEAR(deviation_reached(name, 500, eta), chain, kMonteCarlo) << name;
  // The chain's own error, of first order in its steps.
  EXPECT_NEAR(chain, kTargetDeviation, 0.02 * kTargetDeviation);
  EXPECT_LT(kTargetDeviation - deviation_of_the_chain(1000), 0.6 * (kTargetDeviation - chain));
  EXPECT_NEAR(deviation_reached("ddim", 500, 0.5), kTargetDeviation, 0.015 * kTargetDeviation);
}

TEST(GaussianTarget, DdimWithEtaOneIsDdpm) {
  // Song et al. 2021, §4.1; the same noise gives the same numbers. 100 steps: the chain's stride is exact.
  std::vector<Tensor> ends;
  for (const char* name : {"ddpm", "ddim"}) {
    const auto sampler =
        find_sampler(name).make(config_of(kStableDiffusion), {.steps = 100, .eta = 1, .prediction = {}});
    at::Generator generator = at::detail::createCPUGenerator(3);
    const auto noise = [&](at::IntArrayRef shape) { return at::randn(shape, generator, at::kDouble); };
    ends.push_back(sampler->sample(ideal_denoiser, noise({1, 4, 3, 3}), noise, nullptr));
  }
  EXPECT_LT((ends[0] - ends[1]).abs().max().item<double>(), 1e-9);
}

// ---- schedules ----------------------------------------------------------------------------------------------------

diffusion::ScheduleSpec spec_of(const json& fields) { return diffusion::read_spec(config_of(fields), "DDPMScheduler"); }

TEST(Schedule, AlphaBarFallsFromOneToZero) {
  for (const char* schedule : {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"}) {
    const std::vector<double> bar = diffusion::alphas_cumprod(spec_of({{"beta_schedule", schedule}}));
    ASSERT_EQ(bar.size(), 1000u);
    double above = 1;
    for (const double value : bar) {
      EXPECT_LT(value, above) << schedule;
      EXPECT_GT(value, 0) << schedule;
      above = value;
    }
  }
}

TEST(Schedule, CosineIsNicholAndDhariwals) {
  // eq. 17, away from the cap: a schedule computed in whole numbers gives betas of 0.
  const std::vector<double> bar = diffusion::alphas_cumprod(spec_of({{"beta_schedule", "squaredcos_cap_v2"}}));
  const auto f = [](double u) { return std::pow(std::cos((u + 0.008) / 1.008 * M_PI / 2), 2); };
  for (const int t : {0, 99, 499, 899}) EXPECT_NEAR(bar[t], f((t + 1) / 1000.0) / f(0), 1e-6) << t;
}

TEST(Schedule, ZeroTerminalSnrEndsInPureNoise) {
  const json fields = {{"beta_start", 0.00085}, {"beta_end", 0.012}, {"beta_schedule", "scaled_linear"}};
  json rescaled = fields;
  rescaled["rescale_betas_zero_snr"] = true;
  const std::vector<double> before = diffusion::alphas_cumprod(spec_of(fields));
  const std::vector<double> after = diffusion::alphas_cumprod(spec_of(rescaled));
  EXPECT_EQ(after.back(), 0);
  EXPECT_NEAR(after.front(), before.front(), 1e-12);
  const auto sampler = find_sampler("euler").make(config_of(rescaled), {.steps = 5, .eta = 0, .prediction = {}});
  EXPECT_NEAR(sampler->init_scale(), 4096, 0.01);  // √(2²⁴ − 1)
}

TEST(Schedule, SigmaToTInvertsTheTrainingSigmas) {
  const std::vector<double> sigmas = diffusion::training_sigmas(spec_of(json::object()));
  for (const int t : {0, 1, 500, 998, 999}) EXPECT_NEAR(diffusion::sigma_to_t(sigmas[t], sigmas), t, 1e-9);
  EXPECT_NEAR(diffusion::sigma_to_t(std::sqrt(sigmas[500] * sigmas[501]), sigmas), 500.5, 1e-9);
  EXPECT_EQ(diffusion::sigma_to_t(0, sigmas), 0);
  EXPECT_EQ(diffusion::sigma_to_t(1e9, sigmas), 999);
}

TEST(Schedule, KarrasIsEquation5) {
  const std::vector<double> sigmas = diffusion::karras_sigmas(0.1, 10, 3);
  const double middle = std::pow((std::pow(10, 1 / 7.0) + std::pow(0.1, 1 / 7.0)) / 2, 7);
  EXPECT_NEAR(sigmas[0], 10, 1e-12);
  EXPECT_NEAR(sigmas[1], middle, 1e-12);
  EXPECT_NEAR(sigmas[2], 0.1, 1e-12);
}

}  // namespace
}  // namespace easel
