// Noise schedules against closed forms and published numbers.
#include <cmath>

#include "diffusion/sampling.h"
#include "diffusion/sigma_schedule.h"

namespace easel {
namespace {

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
  const auto sampler = find_sampler("euler").make(config_of(rescaled), {.steps = 5});
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

TEST(Schedule, ExponentsAreTheRequests) {
  const std::vector<double> even = diffusion::exponential_sigmas(0.1, 10, 3);
  EXPECT_NEAR(even[1], 1, 1e-12);
  const std::vector<double> bent = diffusion::exponential_sigmas(0.1, 10, 3, 2.0);
  EXPECT_NEAR(bent[1], std::exp(std::log(0.1) + 0.25 * std::log(100)), 1e-12);
  const auto second = [](const SamplerOptions& options) {
    return find_sampler("euler").make(config_of(stable_diffusion()), options)->steps()[1].sigma;
  };
  const double usual = second({.steps = 3, .schedule = "karras"});
  EXPECT_EQ(second({.steps = 3, .schedule = "karras", .rho = 7}), usual);
  EXPECT_GT(second({.steps = 3, .schedule = "karras", .rho = 1}), usual);
}

TEST(Schedule, BetaQuantilesInvertTheDistribution) {
  // Closed forms: Beta(1/2, 1/2) is the arcsine law, Beta(1, 1) is even, Beta(2, 1) has I_x = x².
  for (const double p : {1e-6, 0.01, 0.3, 0.5, 0.77, 0.999}) {
    EXPECT_NEAR(diffusion::beta_quantile(p, 0.5, 0.5), std::pow(std::sin(M_PI / 2 * p), 2), 1e-13);
    EXPECT_NEAR(diffusion::beta_quantile(p, 1, 1), p, 1e-13);
    EXPECT_NEAR(diffusion::beta_quantile(p, 2, 1), std::sqrt(p), 1e-12);
    EXPECT_NEAR(diffusion::beta_quantile(p, 0.6, 0.6) + diffusion::beta_quantile(1 - p, 0.6, 0.6), 1, 1e-12);
  }
}

TEST(Schedule, KlOptimalIsEvenInTheAngle) {
  const std::vector<double> sigmas = diffusion::kl_optimal_sigmas(0.1, 10, 3);
  EXPECT_NEAR(std::atan(sigmas[1]), (std::atan(0.1) + std::atan(10)) / 2, 1e-12);
}

TEST(Schedule, AlignYourStepsAreThePublishedTables) {
  const auto sigmas = [](const char* schedule) {
    const auto steps =
        find_sampler("euler").make(config_of(stable_diffusion()), {.steps = 10, .schedule = schedule})->steps();
    std::vector<double> values;
    for (const Step& step : steps) values.push_back(step.sigma);
    return values;
  };
  const std::vector<double> sd = {14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152};
  const std::vector<double> sdxl = {14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113};
  for (int i = 0; i < 10; ++i) {
    EXPECT_NEAR(sigmas("ays")[i], sd[i], 1e-12);
    EXPECT_NEAR(sigmas("ays_sdxl")[i], sdxl[i], 1e-12);
  }
}

}  // namespace
}  // namespace easel
