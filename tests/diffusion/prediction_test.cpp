#include <cmath>

#include "diffusion/sampling.h"

namespace easel {
namespace {

// ---- predictions and guidance -------------------------------------------------------------------------------------

TEST(Prediction, EveryTypeGivesBackX0AndEps) {
  at::Generator generator = at::detail::createCPUGenerator(1);
  const Tensor x0 = at::randn({2, 3, 4, 4}, generator, at::kDouble);
  const Tensor eps = at::randn({2, 3, 4, 4}, generator, at::kDouble);
  for (const auto& [alpha, sigma] : std::vector<std::pair<double, double>>{{0.6, 0.8}, {1.0, 14.6}, {1.0, 0.03}}) {
    const double norm = std::hypot(alpha, sigma);
    const Tensor x = alpha * x0 + sigma * eps;
    const std::vector<std::pair<PredictionType, Tensor>> targets = {
        {PredictionType::kEpsilon, eps},
        {PredictionType::kVPrediction, (alpha * eps - sigma * x0) / norm},
        {PredictionType::kSample, x0}};
    for (const auto& [type, target] : targets) {
      const Network network = [&, &target = target](const Tensor& input, double t) {
        EXPECT_EQ(t, 321.5);
        EXPECT_TRUE(at::allclose(input, x / norm, 1e-12, 1e-12));
        return target;
      };
      const Prediction p = make_denoiser(network, type)(x, {321.5, alpha, sigma});
      EXPECT_TRUE(at::allclose(p.x0, x0, 1e-9, 1e-9)) << to_string(type) << " " << sigma;
      EXPECT_TRUE(at::allclose(p.eps, eps, 1e-9, 1e-9)) << to_string(type) << " " << sigma;
      EXPECT_FALSE(p.variance.defined());
    }
  }
}

TEST(Prediction, SecondHalfOfTheChannelsIsTheVariance) {
  const Network network = [](const Tensor& x, double) { return at::cat({x, x + 1}, 1); };
  const Tensor x = at::ones({2, 3, 2, 2});
  const Prediction p = make_denoiser(network, PredictionType::kEpsilon)(x, {1, 0.6, 0.8});
  EXPECT_TRUE(at::equal(p.eps, x));
  EXPECT_TRUE(at::equal(p.variance, x + 1));
}

TEST(Guidance, OneBatchUnconditionalFirst) {
  int calls = 0;
  const Network network = [&](const Tensor& x, double t) {
    ++calls;
    EXPECT_EQ(x.sizes(), at::IntArrayRef({4, 1, 1, 1}));
    EXPECT_TRUE(at::equal(x.narrow(0, 0, 2), x.narrow(0, 2, 2)));
    EXPECT_EQ(t, 7);
    return at::tensor({1.0f, 2.0f, 11.0f, 22.0f}).view({4, 1, 1, 1});
  };
  const Tensor got = guide(network, 3)(at::ones({2, 1, 1, 1}), 7);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(at::equal(got, at::tensor({31.0f, 62.0f}).view({2, 1, 1, 1})));  // u + 3·(c − u)
}

TEST(Guidance, RescaledToTheDeviationOfTheConditional) {
  at::Generator generator = at::detail::createCPUGenerator(1);
  const Tensor halves =
      at::randn({4, 3, 4, 4}, generator, at::kDouble) * at::tensor({1.0, 2.0, 3.0, 4.0}).view({4, 1, 1, 1});
  const Network network = [&](const Tensor&, double) { return halves; };
  const Tensor x = at::zeros({2, 3, 4, 4}, at::kDouble);
  const Tensor plain = guide(network, 7.5)(x, 1), half = guide(network, 7.5, 0.5)(x, 1),
               full = guide(network, 7.5, 1)(x, 1);
  for (const int64_t b : {0, 1}) {
    // Lin et al. 2023, eq. 15: the deviation over each picture is the conditional's; eq. 16: half of both.
    EXPECT_NEAR(full[b].std().item<double>(), halves[b + 2].std().item<double>(), 1e-12);
    EXPECT_TRUE(at::allclose(half[b], (full[b] + plain[b]) / 2, 1e-12, 1e-12));
    EXPECT_TRUE(at::allclose(full[b] / full[b].std(), plain[b] / plain[b].std(), 1e-12, 1e-12));
  }
  EXPECT_TRUE(at::equal(guide(network, 7.5, 0)(x, 1), plain));
}

TEST(Guidance, OutsideTheIntervalHalfTheWork) {
  for (const std::string name : {"euler", "heun", "dpm++2m", "pndm"}) {
    int guided = 0, plain = 0;
    std::vector<double> inside;
    const Denoiser with = [&](const Tensor& x, const Step& step) {
      ++guided;
      inside.push_back(step.progress);
      return Prediction{x * 0, x * 0, {}};
    };
    const Denoiser without = [&](const Tensor& x, const Step&) {
      ++plain;
      return Prediction{x * 0, x * 0, {}};
    };
    const auto sampler = find_sampler(name).make(config_of({{"skip_prk_steps", true}}), {.steps = 10});
    sampler->sample(guided_between(0.2, 0.6, with, without), at::ones({1, 1, 1, 1}), nullptr, nullptr);
    EXPECT_EQ(guided, name == "heun" ? 8 : 4) << name;  // steps 2, 3, 4, 5; pndm has 11, of which 3 to 6
    EXPECT_EQ(guided + plain, static_cast<int>(sampler->steps().size())) << name;
    for (const double progress : inside) EXPECT_TRUE(progress >= 0.2 && progress < 0.6) << name << " " << progress;
  }
}

TEST(Prediction, AWatcherSeesEveryCall) {
  for (const SamplerRow& row : sampler_table()) {
    const auto sampler = row.make(config_of(json::object()), {.steps = 5});
    std::vector<Step> seen;
    const Denoiser denoise = watched(make_denoiser([](const Tensor& x, double) { return x; }, sampler->prediction()),
                                     [&](const Tensor& x, const Step& step, const Prediction& p) {
                                       EXPECT_TRUE(at::allclose(step.alpha * p.x0 + step.sigma * p.eps, x, 1e-3, 1e-3));
                                       seen.push_back(step);
                                     });
    sampler->sample(
        denoise, at::ones({1, 1, 1, 1}), [](at::IntArrayRef s) { return at::ones(s); }, nullptr);
    const std::vector<Step> steps = sampler->steps();
    ASSERT_EQ(seen.size(), steps.size()) << row.name;
    for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i].t, steps[i].t) << row.name;
  }
}

}  // namespace
}  // namespace easel
