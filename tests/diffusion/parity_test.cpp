// Every sampler and schedule against its reference on a fixed analytic network: timesteps, sigmas and latents of
// scripts/golden/samplers_golden.py, which says what the numbers are.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <map>

#include "diffusion/sampling.h"
#include "diffusion/schedule.h"
#include "easel/weights.h"

namespace easel {
namespace {

// Relative to the sum of the sizes of what is added up in a projection. The goldens are the reference's formulas in
// float64, stored as float32. The test prints the largest difference of each sampler.
constexpr double kDouble = 3e-7;  // our latents in float64. Seen: 2e-7 in dpm++2s_a (kTimestep), else 3e-8
constexpr double kSingle = 1e-5;  // in float32. Seen: 4e-6
// A sigma interpolated between two timesteps comes back 4e-4 off, as the way back is linear in log sigma; where a
// step's middle falls on such a sigma, the two ways meet. What t does shows in the latents.
constexpr double kTimestep = 1e-3;

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

// Two weighted sums of a latent, and of its sizes.
struct Projection {
  double sums[2], sizes[2];

  explicit Projection(const Tensor& x) {
    const Tensor n = at::arange(x.numel(), at::kDouble), flat = x.to(at::kDouble).flatten();
    const Tensor weights[2] = {at::cos(1 + 0.7 * n), at::sin(2 + 1.9 * n * n / static_cast<double>(x.numel()))};
    for (int k = 0; k < 2; ++k) {
      sums[k] = (weights[k] * flat).sum().item<double>();
      sizes[k] = (weights[k] * flat).abs().sum().item<double>();
    }
  }

  template <typename Row>
  double difference(const Row& expected) const {
    return std::max(std::abs(sums[0] - expected[0]) / sizes[0], std::abs(sums[1] - expected[1]) / sizes[1]);
  }
};

std::unique_ptr<Sampler> sampler_of_group(const json& group, int steps) {
  SamplerOptions options{.steps = steps, .eta = {}};
  const std::string sampler = group.at("sampler"), schedule = group.at("schedule");
  const SamplerRow& row = find_sampler(sampler);
  if (sampler == "ddim" || sampler == "tcd") options.eta = group.at("eta").get<double>();
  if (schedule == "given" && row.schedules == Schedules::kTimesteps)
    options.timesteps = {951, 700, 333, 20};
  else if (schedule == "given")
    options.sigmas = {12.5, 5.0, 1.5, 0.4, 0.0};
  else if (schedule != "model")
    options.schedule = schedule;
  return row.make(config_of(group.at("file")), options);
}

std::vector<Projection> run(const Sampler& sampler, int64_t channels, at::ScalarType dtype) {
  at::Generator generator = at::detail::createCPUGenerator(golden().document.at("seed").get<uint64_t>());
  const NoiseSource noise = noise_of(generator);
  const Tensor x = noise(golden().document.at("shape").get<Shape>()).to(dtype) * sampler.init_scale();
  std::vector<Projection> latents;
  sampler.sample(make_denoiser(analytic_network(channels), sampler.prediction()), x, noise,
                 [&](int, const Tensor& latent) { latents.emplace_back(latent); });
  return latents;
}

struct Largest {
  double in_double = 0, in_single = 0, to_single = 0;
};

// One run of a group against its rows of `calls`, which begin at `row`; returns the row after them.
int64_t check_run(const json& group, int steps, const Tensor& calls, int64_t row, Largest& largest) {
  const auto sampler = sampler_of_group(group, steps);
  const std::vector<Step> at = sampler->steps();
  const int64_t channels = group.at("channels");
  const std::vector<Projection> in_double = run(*sampler, channels, at::kDouble);
  const std::vector<Projection> in_single = run(*sampler, channels, at::kFloat);
  EXPECT_EQ(at.size(), in_double.size());
  for (std::size_t i = 0; i < at.size(); ++i) {
    if (steps > 10 && i % 10 != 0 && i + 1 != at.size()) continue;
    if (row == calls.size(0)) {
      ADD_FAILURE() << "more network calls than the reference's";
      return row;
    }
    const float* expected = calls[row++].const_data_ptr<float>();
    EXPECT_NEAR(at[i].t, expected[2], kTimestep) << "call " << i;
    EXPECT_NEAR(std::hypot(at[i].alpha, at[i].sigma), expected[3], 1e-6 * expected[3]) << "call " << i;
    if (std::isnan(expected[0])) continue;  // the reference's function shows only where it ends
    largest.in_double = std::max(largest.in_double, in_double[i].difference(expected));
    largest.in_single = std::max(largest.in_single, in_single[i].difference(expected));
  }
  return row;
}

TEST(Parity, TheRandomStreamIsTorchs) {
  at::Generator generator = at::detail::createCPUGenerator(golden().document.at("seed").get<uint64_t>());
  EXPECT_TRUE(
      at::equal(at::randn(golden().document.at("shape").get<Shape>(), generator), golden().tensors->load("noise")));
}

TEST(Parity, EverySamplerEveryScheduleEveryCall) {
  std::map<std::string, Largest> by_sampler;
  const json& groups = golden().document.at("groups");
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const json& group = groups[g];
    Largest largest;
    const Tensor calls = golden().tensors->load("calls/" + std::to_string(g));
    const Tensor ends = golden().tensors->load("float32/" + std::to_string(g));
    int64_t row = 0, index = 0;
    const std::string name = "group " + std::to_string(g) + " " + group.at("sampler").get<std::string>() + " " +
                             group.at("schedule").get<std::string>() + " " + group.at("file").dump();
    for (const int steps : group.at("steps")) {
      SCOPED_TRACE(name + " steps " + std::to_string(steps));
      row = check_run(group, steps, calls, row, largest);
      const auto sampler = sampler_of_group(group, steps);
      const Projection end = run(*sampler, group.at("channels"), at::kFloat).back();
      largest.to_single = std::max(largest.to_single, end.difference(ends[index++].const_data_ptr<float>()));
    }
    EXPECT_EQ(row, calls.size(0)) << name;
    EXPECT_LE(largest.in_double, kDouble) << name;
    EXPECT_LE(largest.in_single, kSingle) << name;
    // The reference as it is: as far from ours as it is from its own formulas in float64.
    EXPECT_LE(largest.to_single, kSingle + group.at("rounding").get<double>()) << name;
    Largest& all = by_sampler[group.at("sampler")];
    all.in_double = std::max(all.in_double, largest.in_double);
    all.in_single = std::max(all.in_single, largest.in_single);
    all.to_single = std::max(all.to_single, largest.to_single);
  }
  for (const SamplerRow& row : sampler_table()) {
    ASSERT_TRUE(by_sampler.contains(row.name)) << "no golden for " << row.name;
    const Largest& largest = by_sampler[row.name];
    std::cout << row.name << ": largest relative difference in float64 " << largest.in_double << ", in float32 "
              << largest.in_single << ", from the reference's float32 " << largest.to_single << "\n";
  }
}

// np.round, np.arange, np.linspace and np.floor for every number of steps, not only the few above.
TEST(Parity, TimestepsOfEveryNumberOfSteps) {
  using namespace diffusion;
  for (const std::string name :
       {"DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "LCMScheduler"}) {
    for (const std::string spacing : {"leading", "linspace", "trailing"}) {
      const json fields = {{"timestep_spacing", spacing}, {"original_inference_steps", 1000}};
      const ScheduleSpec spec = read_spec(config_of(fields), name);
      const Tensor sums = golden().tensors->load("checksum/" + name + "/" + spacing);
      for (int n = 1; n <= static_cast<int>(sums.numel()); ++n) {
        const std::vector<double> t = name.starts_with("DPM")   ? solver_timesteps(spec, n)
                                      : name.starts_with("LCM") ? distilled_timesteps(spec, n)
                                                                : spaced_timesteps(spec, n, name.starts_with("DDIM"));
        double sum = 0;
        for (std::size_t i = 0; i < t.size(); ++i) sum += static_cast<double>(i + 1) * t[i];
        const double expected = sums[n - 1].item<double>();
        ASSERT_NEAR(sum, expected, (name.starts_with("Euler") ? 1e-7 : 1e-12) * expected)
            << name << " " << spacing << " " << n;
      }
    }
  }
}

}  // namespace
}  // namespace easel
