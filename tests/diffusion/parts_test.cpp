// Parts of a run: strength, and the hand-over from a base to a refiner.
#include <cmath>

#include "diffusion/sampling.h"

namespace easel {
namespace {

Prediction toy(const Tensor& x, const Step& step) {
  const Tensor x0 = at::tanh(x / std::hypot(step.alpha, step.sigma));
  return {x0, (x - step.alpha * x0) / step.sigma, {}};
}

Tensor walk(const Sampler& sampler, const Tensor& x, at::Generator& generator) {
  return sampler.sample(toy, x, noise_of(generator), nullptr);
}

TEST(Parts, StrengthKeepsTheLastSteps) {
  for (const SamplerRow& row : sampler_table()) {
    if (row.name == "pndm" || row.name == "restart") continue;  // legs that are not steps, below
    const auto full = row.make(config_of(stable_diffusion()), {.steps = 20})->steps();
    for (const auto& [strength, steps] :
         std::vector<std::pair<double, int>>{{0.75, 15}, {0.33, 6}, {0.05, 1}, {1, 20}}) {
      const auto part = row.make(config_of(stable_diffusion()), {.steps = 20, .strength = strength});
      const std::vector<Step> calls = part->steps();
      const std::size_t expected = full.size() - static_cast<std::size_t>((20 - steps) * row.calls_per_step);
      ASSERT_EQ(calls.size(), expected) << row.name << " " << strength;
      for (std::size_t i = 0; i < calls.size(); ++i)
        EXPECT_EQ(calls[i].t, full[full.size() - calls.size() + i].t) << row.name;
      const Tensor x0 = at::full({1, 1, 1, 1}, 2.0, at::kDouble), noise = at::full({1, 1, 1, 1}, 3.0, at::kDouble);
      EXPECT_NEAR(part->noised(x0, noise).item<double>(), 2 * calls[0].alpha + 3 * calls[0].sigma, 1e-12) << row.name;
    }
  }
}

// In diffusers PNDM is cut in its list of calls, in which the second timestep stands twice.
TEST(Parts, PndmIsCutInItsCalls) {
  const auto config = config_of(stable_diffusion({{"steps_offset", 1}}));
  const std::vector<Step> full = find_sampler("pndm").make(config, {.steps = 20})->steps();
  const std::vector<Step> part = find_sampler("pndm").make(config, {.steps = 20, .strength = 0.75})->steps();
  ASSERT_EQ(full.size(), 21u);
  ASSERT_EQ(part.size(), 16u);
  EXPECT_EQ(part.front().t, 751);
}

TEST(Parts, BaseAndRefinerAreOneRun) {
  // Samplers that remember nothing from step to step end where the whole run ends.
  for (const char* name : {"euler", "euler_a", "heun", "dpm2", "dpm++2s_a", "dpm++sde", "ddim", "ddpm", "tcd"}) {
    for (const double at : {0.8, 0.5, 0.25}) {
      SCOPED_TRACE(std::string(name) + " " + plain(at));
      const auto make = [&](const SamplerOptions& options) {
        return find_sampler(name).make(config_of(stable_diffusion({{"timestep_spacing", "leading"}})), options);
      };
      const auto whole = make({.steps = 12}), base = make({.steps = 12, .denoising_end = at});
      const auto refiner = make({.steps = 12, .denoising_start = at});
      EXPECT_EQ(base->steps().size() + refiner->steps().size(), whole->steps().size());
      at::Generator one = at::detail::createCPUGenerator(3), two = at::detail::createCPUGenerator(3);
      const Tensor x = at::full({1, 1, 4, 4}, 1.5) * whole->init_scale();
      const Tensor expected = walk(*whole, x, one);
      EXPECT_TRUE(at::equal(walk(*refiner, walk(*base, x, two), two), expected));
    }
  }
}

// diffusers: timesteps at least round(T − f·T) are the base's.
TEST(Parts, TheTimestepDecides) {
  const json sdxl = {{"timestep_spacing", "leading"}, {"steps_offset", 1}};
  const auto base = find_sampler("euler").make(config_of(sdxl), {.steps = 25, .denoising_end = 0.8})->steps();
  const auto refiner = find_sampler("euler").make(config_of(sdxl), {.steps = 25, .denoising_start = 0.8})->steps();
  ASSERT_EQ(base.size(), 20u);  // 961, 921, …, 201
  EXPECT_EQ(base.back().t, 201);
  ASSERT_EQ(refiner.size(), 5u);
  EXPECT_EQ(refiner.front().t, 161);
  EXPECT_DOUBLE_EQ(refiner.front().progress, 0.8);
}

TEST(Parts, HistoryBeginsWithThePart) {
  for (const SamplerRow& row : sampler_table()) {
    SCOPED_TRACE(row.name);
    const auto part = row.make(config_of(stable_diffusion()), {.steps = 12, .strength = 0.5});
    at::Generator generator = at::detail::createCPUGenerator(3);
    const Tensor picture = at::full({1, 1, 4, 4}, 0.9), x = part->noised(picture, noise_of(generator)(picture.sizes()));
    const Tensor end = walk(*part, x, generator);
    EXPECT_TRUE(at::isfinite(end).all().item<bool>());
    EXPECT_LT(end.abs().max().item<double>(), 2);
  }
}

TEST(Parts, NothingLeftIsRefused) {
  const auto make = [](const SamplerOptions& options) {
    return [=] { find_sampler("euler").make(config_of(stable_diffusion()), options); };
  };
  expect_error(ErrorKind::kUsage, {"no step is left of 20", "--strength"}, make({.steps = 20, .strength = 0.04}));
  expect_error(ErrorKind::kUsage, {"no step is left"},
               make({.steps = 4, .denoising_start = 0.5, .denoising_end = 0.4}));
  expect_error(ErrorKind::kUsage, {"--strength 1.5"}, make({.steps = 20, .strength = 1.5}));
  expect_error(ErrorKind::kUsage, {"denoising_end 1"}, make({.steps = 20, .denoising_end = 1}));
  expect_error(ErrorKind::kUsage, {"denoising_start 0"}, make({.steps = 20, .denoising_start = 0}));
}

}  // namespace
}  // namespace easel
