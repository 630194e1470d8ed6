// Every sampler against diffusers 0.42.1 on a fixed analytic network: timesteps and latents of
// scripts/golden/samplers_golden.py.
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iostream>
#include <map>

#include "diffusion/schedule.h"
#include "easel/weights.h"

namespace easel {
namespace {

// Differences are relative to the largest value of the reference's latent at the same call. diffusers keeps its
// schedule in float32, ours is float64, and that is all there is between them: diffusers' own code with its tables in
// float64 is as far from the goldens as ours is, in the same runs. The test prints the largest difference of each
// sampler.
constexpr double kTolerance = 2e-5;            // seen: 1.7e-5, in ddim's single step
constexpr double kZeroSnrTolerance = 5e-4;     // Euler from sigma 4096, where float32 loses three digits. Seen: 4.3e-4
constexpr double kInitTolerance = 2e-5;        // seen: 1.3e-5, one step that starts at the smallest sigma
constexpr double kFractionalTolerance = 2e-3;  // timesteps interpolated between logarithms of sigma. Seen: 1.6e-3

struct Golden {
  json document;
  SourcePtr tensors;
};

const Golden& golden() {
  static const Golden data = [] {
    const std::string stem = EASEL_TEST_DATA "/golden/samplers";
    return Golden{json::parse(std::ifstream(stem + ".json")), open_safetensors(stem + ".safetensors")};
  }();
  return data;
}

Network analytic_network(int64_t channels) {
  return [channels](const Tensor& x, double t) {
    const Tensor out = 0.3 * x * std::cos(t / 100) + 0.1 * at::sin(3 * x);
    return channels == x.size(1) ? out : at::cat({out, at::sin(2 * x + t / 50).square()}, 1);
  };
}

const SamplerRow& row_of(const std::string& class_name) {
  for (const SamplerRow& row : sampler_table()) {
    if (row.reference == class_name) return row;
  }
  throw std::logic_error("no row for " + class_name);
}

struct SampledRun {
  std::vector<Tensor> latents;  // one per network call
  std::vector<Step> steps;
  double init_scale;
};

SampledRun run(const json& group, int steps) {
  const SchedulerConfig config = SchedulerConfig::from_json(group.at("fields"), "golden");
  const SamplerOptions options{.steps = steps, .eta = group.at("eta").get<double>(), .prediction = {}};
  const auto sampler = row_of(group.at("class")).make(config, options);

  at::Generator generator = at::detail::createCPUGenerator(golden().document.at("seed").get<uint64_t>());
  const NoiseSource noise = [&](at::IntArrayRef shape) { return at::randn(shape, generator); };
  const auto shape = golden().document.at("shape").get<Shape>();
  const Tensor x = noise(shape) * sampler->init_scale();
  SampledRun result{{}, sampler->steps(), sampler->init_scale()};
  const Denoiser denoise = make_denoiser(analytic_network(group.at("channels")), sampler->prediction());
  sampler->sample(denoise, x, noise, [&](int, const Tensor& latent) { result.latents.push_back(latent); });
  return result;
}

double tolerance_of(const json& group) {
  const bool from_sigma_4096 = group.at("class").get<std::string>().starts_with("Euler") &&
                               group.at("fields").value("rescale_betas_zero_snr", false);
  return from_sigma_4096 ? kZeroSnrTolerance : kTolerance;
}

double largest_difference(const SampledRun& got, const Tensor& expected) {
  const auto stored = static_cast<std::size_t>(expected.size(0));  // all calls, or the last alone
  double largest = 0;
  for (std::size_t i = 0; i < stored; ++i) {
    const Tensor want = expected[static_cast<int64_t>(i)];
    const Tensor have = got.latents.at(got.latents.size() - stored + i);
    largest = std::max(largest, ((have - want).abs().max() / want.abs().max()).item<double>());
  }
  return largest;
}

TEST(Parity, TheRandomStreamIsTorchs) {
  at::Generator generator = at::detail::createCPUGenerator(golden().document.at("seed").get<uint64_t>());
  EXPECT_TRUE(
      at::equal(at::randn(golden().document.at("shape").get<Shape>(), generator), golden().tensors->load("noise")));
}

TEST(Parity, EverySamplerEveryCall) {
  std::map<std::string, double> largest;
  const json& groups = golden().document.at("groups");
  for (std::size_t index = 0; index < groups.size(); ++index) {
    const json& group = groups[index];
    for (const json& reference : group.at("runs")) {
      const int steps = reference.at("steps");
      SCOPED_TRACE(group.at("class").get<std::string>() + " " + group.at("fields").dump() + " eta " +
                   group.at("eta").dump() + " steps " + std::to_string(steps));
      const SampledRun got = run(group, steps);
      const auto t = reference.at("t").get<std::vector<double>>();
      ASSERT_EQ(got.steps.size(), t.size());
      ASSERT_EQ(got.latents.size(), t.size());
      for (std::size_t i = 0; i < t.size(); ++i)
        EXPECT_NEAR(got.steps[i].t, t[i], t[i] == std::floor(t[i]) ? 1e-4 : kFractionalTolerance) << "call " << i;
      EXPECT_NEAR(got.init_scale, reference.at("init").get<double>(), kInitTolerance * got.init_scale);
      const Tensor expected = golden().tensors->load(std::to_string(index) + "/" + std::to_string(steps));
      const double difference = largest_difference(got, expected);
      EXPECT_LE(difference, tolerance_of(group));
      double& seen = largest[group.at("class")];
      seen = std::max(seen, difference);
    }
  }
  for (const SamplerRow& row : sampler_table()) {
    ASSERT_TRUE(largest.contains(row.reference)) << "no golden for " << row.name;
    std::cout << row.name << ": largest relative difference " << largest[row.reference] << "\n";
  }
}

// np.round, np.arange and np.linspace for every number of steps, not only the few above.
TEST(Parity, TimestepsOfEveryNumberOfSteps) {
  for (const SamplerRow& row : sampler_table()) {
    for (const std::string spacing : {"leading", "linspace", "trailing"}) {
      json fields = {{"timestep_spacing", spacing}};
      if (row.name == "pndm") fields["skip_prk_steps"] = true;
      const SchedulerConfig config = SchedulerConfig::from_json(fields, "test");
      const Tensor sums = golden().tensors->load("checksum/" + row.reference + "/" + spacing);
      for (int n = 1; n <= 1000; ++n) {
        const double expected = sums[n - 1].item<double>();
        if (std::isnan(expected)) continue;  // the reference visits t = −1 (see spaced_timesteps)
        const std::vector<Step> steps = row.make(config, {.steps = n, .eta = 0, .prediction = {}})->steps();
        double sum = 0;
        for (std::size_t i = 0; i < steps.size(); ++i) sum += static_cast<double>(i + 1) * steps[i].t;
        ASSERT_NEAR(sum, expected, 1e-9 * expected) << row.name << " " << spacing << " " << n;
      }
    }
  }
}

}  // namespace
}  // namespace easel
