// Against closed forms rather than another program: the forward process and posterior of Ho et al. 2020, and a Gaussian
// target N(0, s²), whose ideal denoiser is known.
#include <cmath>
#include <iostream>

#include "diffusion/ddpm_posterior.h"
#include "diffusion/sampling.h"
#include "diffusion/sigma_schedule.h"

namespace easel {
namespace {

constexpr double kTargetDeviation = 0.5;  // s

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

// ---- Gaussian target, the probability flow ODE --------------------------------------------------------------------

// The ODE keeps x/√(α²s² + σ²). `sampler` must end where `to` says.
double ode_error(const Sampler& sampler, const Step& to) {
  const Tensor x = at::tensor({-2.0, 0.3, 1.0, 3.0}, at::kDouble).view({1, 1, 2, 2}) * sampler.init_scale();
  const Step from = sampler.steps().front();
  const double before = std::hypot(from.alpha * kTargetDeviation, from.sigma);
  const double after = std::hypot(to.alpha * kTargetDeviation, to.sigma);
  const Tensor got = sampler.sample(ideal_denoiser, x, nullptr, nullptr);
  return (got * before / (x * after) - 1).abs().max().item<double>();
}

// From sigma 10 to 0.1 in n steps that crowd at the end; the variance-preserving form ends at the same sigma/alpha.
// A method of order 3 or 4 grows to it from first order: short first steps keep that from being all one sees.
std::vector<double> measuring_sigmas(int n, bool short_start) {
  std::vector<double> sigmas = diffusion::karras_sigmas(0.1, 10, n + 1);
  const double h = std::log(sigmas[0] / sigmas[1]);
  if (short_start) sigmas.insert(sigmas.begin(), {10 * std::exp(h * h + h * h * h), 10 * std::exp(h * h)});
  return sigmas;
}

double error_on_sigmas(const SamplerRow& row, int n) {
  const SamplerOptions options{.eta = 0, .sigmas = measuring_sigmas(n, row.order > 2)};
  const auto sampler = row.make(config_of(stable_diffusion({{"lower_order_final", false}})), options);
  const bool preserving = sampler->steps().front().alpha != 1;
  const double norm = preserving ? std::hypot(1.0, 0.1) : 1.0;
  return ode_error(*sampler, {0, 1 / norm, 0.1 / norm});
}

TEST(GaussianTarget, EverySamplerOfSigmasConvergesAtItsOrder) {
  for (const SamplerRow& row : sampler_table()) {
    if (row.schedules != Schedules::kAny || (row.stochastic && !row.has_eta)) continue;
    const double coarse = error_on_sigmas(row, 80), fine = error_on_sigmas(row, 160);
    const double order = std::log2(coarse / fine);
    std::cout << row.name << ": error " << fine << " in 160 steps, order " << order << "\n";
    EXPECT_GT(order, row.order - 0.25) << row.name;
    EXPECT_LT(order, row.order + 0.75) << row.name;
    EXPECT_LT(fine, row.order == 1 ? 0.05 : row.order == 2 ? 2e-3 : 2e-4) << row.name;
  }
}

double error_on_timesteps(const std::string& name, int n, const json& more = json::object()) {
  const auto sampler = find_sampler(name).make(config_of(stable_diffusion(more)), {.steps = n, .eta = 0});
  return ode_error(*sampler, {0, 1, 0});
}

TEST(GaussianTarget, DdimConvergesAtFirstOrder) {
  const double coarse = error_on_timesteps("ddim", 100), fine = error_on_timesteps("ddim", 200);
  EXPECT_LT(fine, 0.02);
  EXPECT_NEAR(std::log2(coarse / fine), 1, 0.15);
}

TEST(GaussianTarget, PndmBeatsDdim) {
  for (const bool skip : {true, false})
    EXPECT_LT(error_on_timesteps("pndm", 50, {{"skip_prk_steps", skip}}), 0.3 * error_on_timesteps("ddim", 50)) << skip;
}

// TCD without noise is DDIM from each of its timesteps to the next; it ends at t = 0.
TEST(GaussianTarget, TcdWithoutNoiseFollowsTheOde) {
  const diffusion::ScheduleSpec spec = diffusion::read_spec(config_of(stable_diffusion()), "TCDScheduler");
  const double bar = diffusion::alphas_cumprod(spec).front();
  const auto error = [&](int n) {
    const json fields = stable_diffusion({{"original_inference_steps", 1000}});
    return ode_error(*find_sampler("tcd").make(config_of(fields), {.steps = n, .eta = 0}),
                     {0, std::sqrt(bar), std::sqrt(1 - bar)});
  };
  EXPECT_LT(error(200), 0.02);
  EXPECT_NEAR(std::log2(error(100) / error(200)), 1, 0.15);
}

// ---- Gaussian target, stochastic samplers -------------------------------------------------------------------------

struct Response {
  double mean;       // where x_T = 1 and no noise ends
  double deviation;  // of the end, from x_T ~ N(0, α²s² + σ²) and noise N(0, 1)
};

// Every step is linear in x and the noise on this target: the k-th number of the latent answers the k-th draw alone,
// and the end's deviation is exact.
Response response_of(const Sampler& sampler, const Denoiser& denoise) {
  int64_t draws = 0;
  const NoiseSource count = [&](at::IntArrayRef shape) { return ++draws, at::zeros(shape, at::kDouble); };
  sampler.sample(denoise, at::zeros({1, 1, 1, 1}, at::kDouble), count, nullptr);
  const Tensor x = at::zeros({1, 1, 1, draws + 1}, at::kDouble);
  x[0][0][0][0] = 1;
  int64_t k = 0;
  const NoiseSource one_each = [&](at::IntArrayRef shape) {
    const Tensor z = at::zeros(shape, at::kDouble);
    z[0][0][0][++k] = 1;
    return z;
  };
  const Tensor end = sampler.sample(denoise, x, one_each, nullptr);
  const Step from = sampler.steps().front();
  const double mean = end[0][0][0][0].item<double>(), start = std::hypot(from.alpha * kTargetDeviation, from.sigma);
  const double noise = end.square().sum().item<double>() - mean * mean;
  return {mean, std::sqrt(mean * mean * start * start + noise)};
}

std::unique_ptr<Sampler> stochastic(const SamplerRow& row, int n) {
  const json fields = stable_diffusion({{"original_inference_steps", 1000}});
  return row.make(config_of(fields), {.steps = n, .eta = row.has_eta ? std::optional(1.0) : std::nullopt});
}

// What a consistency model predicts: the end of the ODE, not the mean of x0.
Prediction consistency(const Tensor& x, const Step& step) {
  const Tensor x0 = x * (kTargetDeviation / std::hypot(step.alpha * kTargetDeviation, step.sigma));
  return {x0, (x - step.alpha * x0) / step.sigma, {}};
}

// ᾱ at t = 0, where TCD ends.
double alpha_bar_0() {
  return diffusion::alphas_cumprod(diffusion::read_spec(config_of(stable_diffusion()), "TCDScheduler")).front();
}

// What a trajectory consistency model predicts with eta 1: the x0 and eps that DDIM's step takes to the ODE's x at t =
// 0.
Prediction trajectory_consistency(const Tensor& x, const Step& step) {
  const double a0 = std::sqrt(alpha_bar_0()), s0 = std::sqrt(1 - alpha_bar_0());
  const Tensor there =
      x * (std::hypot(a0 * kTargetDeviation, s0) / std::hypot(step.alpha * kTargetDeviation, step.sigma));
  const double determinant = step.alpha * s0 - step.sigma * a0;
  return {(s0 * x - step.sigma * there) / determinant, (step.alpha * there - a0 * x) / determinant, {}};
}

Denoiser denoiser_for(const SamplerRow& row) {
  if (row.name == "lcm") return consistency;
  if (row.name == "tcd") return trajectory_consistency;
  return ideal_denoiser;
}

double wanted_deviation(const SamplerRow& row) {
  if (row.name != "tcd") return kTargetDeviation;
  return std::hypot(std::sqrt(alpha_bar_0()) * kTargetDeviation, std::sqrt(1 - alpha_bar_0()));
}

TEST(GaussianTarget, EveryStochasticSamplerReachesTheDeviation) {
  for (const SamplerRow& row : sampler_table()) {
    if (!row.stochastic && !row.has_eta) continue;
    const Denoiser denoise = denoiser_for(row);
    const double wanted = wanted_deviation(row);
    const double coarse = response_of(*stochastic(row, 100), denoise).deviation / wanted - 1;
    const double fine = response_of(*stochastic(row, 400), denoise).deviation / wanted - 1;
    std::cout << row.name << ": deviation off by " << coarse << " in 100 steps, " << fine << " in 400\n";
    EXPECT_LT(std::abs(fine), 0.02) << row.name;
    EXPECT_LT(std::abs(fine), std::max(std::abs(coarse) * 0.6, 0.002)) << row.name;
  }
}

// 40,000 numbers: Monte-Carlo error of a deviation 0.35 %, of a mean 0.5 %; three of these are allowed.
TEST(GaussianTarget, DrawnNumbersHaveTheMeanAndDeviation) {
  for (const SamplerRow& row : sampler_table()) {
    if (!row.stochastic && !row.has_eta) continue;
    const Denoiser denoise = denoiser_for(row);
    const auto sampler = stochastic(row, 60);
    at::Generator generator = at::detail::createCPUGenerator(7);
    const NoiseSource noise = noise_of(generator);
    const Step from = sampler->steps().front();
    const Tensor x = noise({1, 1, 200, 200}) * std::hypot(from.alpha * kTargetDeviation, from.sigma);
    const Tensor end = sampler->sample(denoise, x, noise, nullptr);
    const double expected = response_of(*sampler, denoise).deviation;
    EXPECT_NEAR(end.mean().item<double>(), 0, 3 * 0.005 * expected) << row.name;
    EXPECT_NEAR(end.std().item<double>(), expected, 3 * 0.0035 * expected) << row.name;
  }
}

TEST(GaussianTarget, DdimWithEtaOneIsDdpm) {
  // Song et al. 2021, §4.1; the same noise gives the same numbers. 100 steps: the chain's stride is exact.
  std::vector<Tensor> ends;
  for (const char* name : {"ddpm", "ddim"}) {
    const auto sampler = find_sampler(name).make(config_of(stable_diffusion()), {.steps = 100, .eta = 1});
    at::Generator generator = at::detail::createCPUGenerator(3);
    const auto noise = [&](at::IntArrayRef shape) { return at::randn(shape, generator, at::kDouble); };
    ends.push_back(sampler->sample(ideal_denoiser, noise({1, 4, 3, 3}), noise, nullptr));
  }
  EXPECT_LT((ends[0] - ends[1]).abs().max().item<double>(), 1e-9);
}

// The SDE solvers at eta 0 are the ODE solvers, in the other form where the two have one each.
TEST(GaussianTarget, WithoutNoiseTheSdeSolversAreTheOdeSolvers) {
  for (const auto& [sde, ode] : std::vector<std::pair<std::string, std::string>>{
           {"euler_a", "euler"}, {"dpm2_a", "dpm2"}, {"dpm++2m_sde", "dpm++2m"}, {"dpm++3m_sde", "dpm++3m"}}) {
    std::vector<Tensor> ends;
    for (const std::string& name : {sde, ode}) {
      const auto sampler = find_sampler(name).make(config_of(stable_diffusion()), {.steps = 12, .eta = 0});
      const Tensor x = at::full({1, 1, 1, 1}, 0.7, at::kDouble) * sampler->init_scale();
      ends.push_back(sampler->sample(consistency, x, nullptr, nullptr));
    }
    EXPECT_NEAR(ends[0].item<double>(), ends[1].item<double>(), 1e-12) << sde;
  }
}

}  // namespace
}  // namespace easel
