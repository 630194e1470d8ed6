// Walks the sampler table; predictions, guidance, and what is refused.
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "diffusion/schedule_spec.h"

namespace easel {
namespace {

SchedulerConfig config_of(const json& fields) {
  return SchedulerConfig::from_json(fields, "model/scheduler_config.json");
}

SamplerOptions options(int steps, double eta = 0) { return {.steps = steps, .eta = eta, .prediction = {}}; }

template <typename Function>
void expect_error(ErrorKind kind, const std::vector<std::string>& words, Function&& function) {
  try {
    function();
    FAIL() << "no error; expected one with '" << words.front() << "'";
  } catch (const Error& error) {
    const std::string text = std::string(error.what()) + "\n" + error.hint();
    EXPECT_EQ(error.kind(), kind) << text;
    for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << word << " in: " << text;
  }
}

struct Drawn {
  Tensor latent;
  int draws = 0;
  int calls = 0;  // of the network
  std::vector<int> reported;
};

Drawn draw(const Sampler& sampler, at::ScalarType dtype = at::kFloat) {
  Drawn result;
  at::Generator generator = at::detail::createCPUGenerator(5);
  const Shape shape = {2, 3, 4, 4};
  const Tensor x = (at::randn(shape, generator) * sampler.init_scale()).to(dtype);
  const NoiseSource noise = [&](at::IntArrayRef wanted) {
    EXPECT_EQ(wanted, at::IntArrayRef(shape));
    ++result.draws;
    return at::randn(wanted, generator);
  };
  const std::vector<Step> steps = sampler.steps();
  const Network network = [&](const Tensor& input, double t) {
    EXPECT_EQ(t, steps.at(result.calls++).t);
    return 0.3 * input;
  };
  result.latent =
      sampler.sample(make_denoiser(network, sampler.prediction()), x, noise, [&](int i, const Tensor& latent) {
        result.reported.push_back(i);
        EXPECT_EQ(latent.sizes(), at::IntArrayRef(shape));
      });
  return result;
}

// ---- the table ----------------------------------------------------------------------------------------------------

TEST(Table, EverySpellingFindsItsRow) {
  std::set<std::string> seen;
  for (const SamplerRow& row : sampler_table()) {
    EXPECT_TRUE(seen.insert(row.name).second) << row.name;
    EXPECT_EQ(&find_sampler(row.name), &row);
    for (const std::string& alias : row.aliases) {
      EXPECT_TRUE(seen.insert(alias).second) << alias;
      EXPECT_EQ(&find_sampler(alias), &row) << alias;
    }
    SchedulerConfig config;
    config.class_name = row.reference;
    EXPECT_EQ(&sampler_of(config), &row);
    EXPECT_FALSE(diffusion::class_defaults(row.reference).is_null()) << row.reference;
    EXPECT_FALSE(row.paper.empty());
  }
  EXPECT_EQ(find_sampler("Euler a").name, "euler_a");
  EXPECT_EQ(find_sampler("EULER-A").name, "euler_a");
  EXPECT_EQ(find_sampler("DDIM").name, "ddim");
}

TEST(Table, EveryRowSamplesEveryPrediction) {
  for (const SamplerRow& row : sampler_table()) {
    for (const auto prediction : {PredictionType::kEpsilon, PredictionType::kVPrediction, PredictionType::kSample}) {
      for (const int steps : {4, 9}) {
        SCOPED_TRACE(row.name + " " + to_string(prediction) + " " + std::to_string(steps));
        const auto sampler = row.make(config_of(json::object()), {.steps = steps, .eta = 0, .prediction = prediction});
        EXPECT_EQ(sampler->prediction(), prediction);
        const Drawn drawn = draw(*sampler);
        EXPECT_TRUE(at::isfinite(drawn.latent).all().item<bool>());
        EXPECT_EQ(drawn.draws > 0, row.stochastic);
        EXPECT_EQ(static_cast<std::size_t>(drawn.calls), sampler->steps().size());
        EXPECT_EQ(drawn.reported.size(), sampler->steps().size());
        for (std::size_t i = 0; i < drawn.reported.size(); ++i) EXPECT_EQ(drawn.reported[i], static_cast<int>(i));
      }
    }
  }
}

TEST(Table, EtaMattersWhereTheTableSaysSo) {
  for (const SamplerRow& row : sampler_table()) {
    const Drawn without = draw(*row.make(config_of(json::object()), options(6, 0)));
    const Drawn with = draw(*row.make(config_of(json::object()), options(6, 1)));
    EXPECT_EQ(!at::equal(without.latent, with.latent), row.has_eta) << row.name;
  }
}

TEST(Table, SamplersKeepTheLatentsType) {
  for (const SamplerRow& row : sampler_table()) {
    for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16, at::kDouble}) {
      const json fields = {{"thresholding", true}};
      EXPECT_EQ(draw(*row.make(config_of(fields), options(5)), dtype).latent.scalar_type(), dtype) << row.name;
    }
  }
}

TEST(Table, NoiseIsDrawnWhereTheReferenceDraws) {
  const auto draws = [](const char* name, const json& fields, double eta) {
    return draw(*find_sampler(name).make(config_of(fields), options(5, eta))).draws;
  };
  EXPECT_EQ(draws("ddpm", json::object(), 0), 4);         // not at t = 0
  EXPECT_EQ(draws("ddpm", {{"steps_offset", 1}}, 0), 5);  // the last t is 1
  EXPECT_EQ(draws("ddim", json::object(), 0), 0);
  EXPECT_EQ(draws("ddim", json::object(), 0.5), 5);
  EXPECT_EQ(draws("euler_a", json::object(), 0), 5);  // the last, of deviation 0, too
}

TEST(Table, PndmCallsTheNetworkMoreOftenThanItSteps) {
  const auto calls = [](int steps, bool skip) {
    return find_sampler("pndm").make(config_of({{"skip_prk_steps", skip}}), options(steps))->steps().size();
  };
  EXPECT_EQ(calls(1, true), 1u);
  EXPECT_EQ(calls(20, true), 21u);
  EXPECT_EQ(calls(20, false), 29u);  // 3 steps of 4 calls, 17 of one
}

TEST(Table, ConstantPredictionOfX0IsReached) {
  // Whatever the sampler, a network that always says x0 = 0.25 ends there: the last step goes to alpha 1, sigma 0.
  const json fields = {
      {"set_alpha_to_one", true}, {"clip_sample", false}, {"skip_prk_steps", true}, {"prediction_type", "sample"}};
  for (const SamplerRow& row : sampler_table()) {
    const auto sampler = row.make(config_of(fields), options(20));
    const Denoiser denoise =
        make_denoiser([](const Tensor& x, double) { return at::full_like(x, 0.25); }, sampler->prediction());
    const Tensor x = at::full({1, 4, 2, 2}, 1.5 * sampler->init_scale(), at::kDouble);
    const Tensor got = sampler->sample(
        denoise, x, [](at::IntArrayRef shape) { return at::ones(shape, at::kDouble); }, nullptr);
    // PNDM extrapolates eps, so it is only near.
    EXPECT_LT((got - 0.25).abs().max().item<double>(), row.name == "pndm" ? 0.01 : 1e-6) << row.name;
  }
}

// ---- the class's defaults and the file's fields -------------------------------------------------------------------

TEST(Inheritance, AbsentFieldsTakeTheChosenClasssDefault) {
  const SchedulerConfig config = config_of({{"_class_name", "PNDMScheduler"}, {"beta_schedule", "scaled_linear"}});
  using diffusion::read_spec;
  EXPECT_EQ(read_spec(config, "DDIMScheduler").timestep_spacing, diffusion::TimestepSpacing::kLeading);
  EXPECT_EQ(read_spec(config, "EulerDiscreteScheduler").timestep_spacing, diffusion::TimestepSpacing::kLinspace);
  EXPECT_TRUE(read_spec(config, "DDIMScheduler").clip_sample);
  EXPECT_FALSE(read_spec(config, "PNDMScheduler").clip_sample);
  EXPECT_TRUE(read_spec(config, "DDIMScheduler").set_alpha_to_one);
  EXPECT_FALSE(read_spec(config, "PNDMScheduler").set_alpha_to_one);
  EXPECT_EQ(read_spec(config, "DDPMScheduler").beta_schedule, diffusion::BetaSchedule::kScaledLinear);
}

TEST(Inheritance, PresentFieldsOfTheFileAreKept) {
  const SchedulerConfig config = config_of({{"_class_name", "PNDMScheduler"},
                                            {"_diffusers_version", "0.6.0"},
                                            {"beta_end", 0.012},
                                            {"beta_schedule", "scaled_linear"},
                                            {"beta_start", 0.00085},
                                            {"clip_sample", false},
                                            {"num_train_timesteps", 1000},
                                            {"set_alpha_to_one", false},
                                            {"skip_prk_steps", true},
                                            {"steps_offset", 1},
                                            {"trained_betas", nullptr}});
  EXPECT_EQ(sampler_of(config).name, "pndm");
  const diffusion::ScheduleSpec ddim = diffusion::read_spec(config, "DDIMScheduler");
  EXPECT_FALSE(ddim.clip_sample);
  EXPECT_FALSE(ddim.set_alpha_to_one);
  EXPECT_EQ(ddim.steps_offset, 1);
  EXPECT_EQ(sampler_of(config).make(config, options(20))->steps().front().t, 951);
}

TEST(Inheritance, FieldsOfOtherSolversAreNoObstacle) {
  const SchedulerConfig config = config_of({{"_class_name", "DPMSolverMultistepScheduler"},
                                            {"algorithm_type", "dpmsolver++"},
                                            {"solver_order", 2},
                                            {"lower_order_final", true},
                                            {"use_flow_sigmas", false},
                                            {"flow_shift", 1.0},
                                            {"variance_type", nullptr},
                                            {"use_dynamic_shifting", false},
                                            {"time_shift_type", "exponential"},
                                            {"lambda_min_clipped", -5.1}});
  EXPECT_EQ(diffusion::read_spec(config, "DDPMScheduler").variance_type, diffusion::VarianceType::kFixedSmall);
  expect_error(ErrorKind::kFile, {"DPMSolverMultistepScheduler", "--sampler", "ddim"}, [&] { sampler_of(config); });
}

// ---- refusals -----------------------------------------------------------------------------------------------------

TEST(Refusals, WrongFieldsAreNamedWithTheirValue) {
  const std::vector<std::pair<json, std::vector<std::string>>> cases = {
      {{{"beta_schedule", "cosine"}}, {"beta_schedule", "\"cosine\"", "squaredcos_cap_v2"}},
      {{{"prediction_type", "flow_prediction"}}, {"prediction_type", "flow_prediction", "v_prediction"}},
      {{{"timestep_spacing", "karras"}}, {"timestep_spacing", "karras", "trailing"}},
      {{{"variance_type", "huge"}}, {"variance_type", "huge", "fixed_small"}},
      {{{"interpolation_type", "cubic"}}, {"interpolation_type", "cubic", "log_linear"}},
      {{{"final_sigmas_type", "one"}}, {"final_sigmas_type", "one", "sigma_min"}},
      {{{"timestep_type", 3}}, {"timestep_type", "3", "continuous"}},
      {{{"clip_sample", "yes"}}, {"clip_sample", "yes", "true or false"}},
      {{{"steps_offset", -1}}, {"steps_offset", "-1", "whole number"}},
      {{{"steps_offset", nullptr}}, {"steps_offset", "null"}},
      {{{"num_train_timesteps", 1000.5}}, {"num_train_timesteps", "1000.5"}},
      {{{"num_train_timesteps", 0}}, {"num_train_timesteps", "from 2"}},
      {{{"beta_start", 0}}, {"beta_start", "between 0 and 1"}},
      {{{"beta_end", 2.0}}, {"beta_end", "2.0"}},
      {{{"trained_betas", {0.1, 1.5}}}, {"trained_betas", "1.5"}},
      {{{"trained_betas", "none"}}, {"trained_betas", "list"}},
      {{{"clip_sample_range", 0}}, {"clip_sample_range", "above 0"}},
      {{{"shift", 3.0}}, {"shift", "3.0", "another kind of noise"}},
      {{{"use_flow_sigmas", true}}, {"use_flow_sigmas", "true"}},
      {{{"sigma_data", 0.5}}, {"sigma_data", "0.5"}},
      {{{"snr_shift_scale", 3.0}}, {"snr_shift_scale", "3.0"}},
      {{{"_class_name", 5}}, {"_class_name", "5"}},
      {json::array({1}), {"JSON object"}},
  };
  for (auto [fields, words] : cases) {
    words.push_back("model/scheduler_config.json");
    expect_error(ErrorKind::kFile, words, [&, &fields = fields] { config_of(fields); });
  }
}

TEST(Refusals, AllFaultsOfAFileAtOnce) {
  try {
    config_of({{"beta_start", "a"}, {"beta_end", "b"}, {"beta_schedule", "c"}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.faults().size(), 3u);
  }
}

TEST(Refusals, WhatTheChosenSamplerCannotHonour) {
  const auto make = [](const char* name, const json& fields, int steps = 5, double eta = 0) {
    return [=] { find_sampler(name).make(config_of(fields), options(steps, eta)); };
  };
  expect_error(ErrorKind::kFile, {"use_beta_sigmas", "true"}, make("euler", {{"use_beta_sigmas", true}}));
  make("ddim", {{"use_beta_sigmas", true}})();  // no field of DDIM's
  expect_error(ErrorKind::kFile, {"use_exponential_sigmas", "use_karras_sigmas"},
               make("euler", {{"use_karras_sigmas", true}, {"use_exponential_sigmas", true}}));
  expect_error(ErrorKind::kFile, {"sigma_min", "sigma_max"}, make("euler", {{"sigma_min", 5}, {"sigma_max", 2}}));
  expect_error(ErrorKind::kFile, {"rescale_betas_zero_snr", "PNDMScheduler", "ddim"},
               make("pndm", {{"rescale_betas_zero_snr", true}}));
  for (const char* name : {"ddpm", "ddim"}) {
    expect_error(ErrorKind::kFile, {"rescale_betas_zero_snr", "epsilon", "v_prediction"},
                 make(name, {{"rescale_betas_zero_snr", true}, {"timestep_spacing", "trailing"}}));
    make(name, {{"rescale_betas_zero_snr", true}})();  // leading spacing never visits the last timestep
  }
  expect_error(ErrorKind::kFile, {"trained_betas", "a list of 3", "1000"},
               make("ddim", {{"trained_betas", {0.1, 0.2, 0.3}}}));
}

TEST(Refusals, NumbersOfStepsAndEta) {
  for (const SamplerRow& row : sampler_table()) {
    const auto make = [&](const json& fields, int steps, double eta = 0) {
      return [&row, fields, steps, eta] { row.make(config_of(fields), options(steps, eta)); };
    };
    expect_error(ErrorKind::kUsage, {"--steps 0", "at least 1"}, make(json::object(), 0));
    expect_error(ErrorKind::kUsage, {"--steps 1001", "1000 timesteps"}, make(json::object(), 1001));
    expect_error(ErrorKind::kUsage, {"--steps 51", "50 timesteps"}, make({{"num_train_timesteps", 50}}, 51));
    expect_error(ErrorKind::kUsage, {"--eta -0.1"}, make(json::object(), 5, -0.1));
    expect_error(ErrorKind::kUsage, {"--eta"}, make(json::object(), 5, std::nan("")));
  }
  const auto make = [&](const char* name, const json& fields, int steps) {
    return [=] { find_sampler(name).make(config_of(fields), options(steps)); };
  };
  expect_error(ErrorKind::kUsage, {"Runge-Kutta", "at least 4"}, make("pndm", json::object(), 3));
  make("pndm", json::object(), 4)();
  // diffusers: IndexError
  expect_error(ErrorKind::kUsage, {"steps_offset 1", "1000", "0 to 999"}, make("ddim", {{"steps_offset", 1}}, 1000));
}

TEST(Refusals, UnknownSamplersSuggestTheNearest) {
  expect_error(ErrorKind::kUsage, {"'eulr'", "euler", "ddpm, ddim"}, [] { find_sampler("eulr"); });
  expect_error(ErrorKind::kFile, {"_class_name", "--sampler"}, [] { sampler_of(config_of(json::object())); });
}

TEST(Refusals, LearnedVarianceNeedsItsChannels) {
  const auto sampler = find_sampler("ddpm").make(config_of({{"variance_type", "learned_range"}}), options(4));
  expect_error(ErrorKind::kFile, {"variance_type", "no variance channels"}, [&] { draw(*sampler); });
}

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

}  // namespace
}  // namespace easel
