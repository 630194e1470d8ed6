// What is refused, by name.
#include <cmath>

#include "diffusion/sampling.h"

namespace easel {
namespace {

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
      {{{"solver_type", "rk4"}}, {"solver_type", "rk4", "midpoint"}},
      {{{"algorithm_type", "ode"}}, {"algorithm_type", "ode", "dpmsolver++"}},
      {{{"solver_order", 9}}, {"solver_order", "9", "from 1 to 4"}},
      {{{"disable_corrector", {1, -2}}}, {"disable_corrector", "list of whole numbers"}},
      {{{"solver_p", "DDIMScheduler"}}, {"solver_p", "only null"}},
      {{{"tau_func", "f"}}, {"tau_func", "only null"}},
      {{{"noise_sampler_seed", 3}}, {"noise_sampler_seed", "only null"}},
      {{{"lambda_min_clipped", "low"}}, {"lambda_min_clipped", "a number"}},
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
    return [=] { find_sampler(name).make(config_of(fields), {.steps = steps, .eta = eta}); };
  };
  make("ddim", {{"use_karras_sigmas", true}, {"use_beta_sigmas", true}})();  // no fields of DDIM's
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
      return [&row, fields, steps, eta] { row.make(config_of(fields), {.steps = steps, .eta = eta}); };
    };
    expect_error(ErrorKind::kUsage, {"--steps 0", "at least 1"}, make(json::object(), 0));
    expect_error(ErrorKind::kUsage, {"--steps 1001", "1000 timesteps"}, make(json::object(), 1001));
    expect_error(ErrorKind::kUsage, {"--steps 51", "50 timesteps"}, make({{"num_train_timesteps", 50}}, 51));
    expect_error(ErrorKind::kUsage, {"--eta -0.1"}, make(json::object(), 5, -0.1));
    expect_error(ErrorKind::kUsage, {"--eta"}, make(json::object(), 5, std::nan("")));
  }
  const auto make = [&](const char* name, const json& fields, int steps) {
    return [=] { find_sampler(name).make(config_of(fields), {.steps = steps}); };
  };
  expect_error(ErrorKind::kUsage, {"Runge-Kutta", "at least 4"}, make("pndm", json::object(), 3));
  make("pndm", json::object(), 4)();
  // diffusers: IndexError
  expect_error(ErrorKind::kUsage, {"steps_offset 1", "1000", "0 to 999"}, make("ddim", {{"steps_offset", 1}}, 1000));
}

TEST(Refusals, ListsAndSchedules) {
  const auto make = [](const char* name, const SamplerOptions& options) {
    return [=] { find_sampler(name).make(config_of(json::object()), options); };
  };
  using Numbers = std::vector<double>;
  for (const Numbers& bad : {Numbers{1, 2, 0}, Numbers{2, 2, 0}, Numbers{2, 0, 0}, Numbers{2, 1, -1}, Numbers{NAN, 0}})
    expect_error(ErrorKind::kUsage, {"--sigmas", "fall"}, make("euler", {.sigmas = bad}));
  expect_error(ErrorKind::kUsage, {"--sigmas", "two numbers"}, make("euler", {.sigmas = {3}}));
  expect_error(ErrorKind::kUsage, {"--sigmas", "does not walk sigmas"}, make("ddim", {.sigmas = {3, 0}}));
  expect_error(ErrorKind::kUsage, {"--timesteps", "fall"}, make("ddim", {.timesteps = {10, 20}}));
  expect_error(ErrorKind::kUsage, {"--timesteps", "1000", "0 to 999"}, make("euler", {.timesteps = {1000, 20}}));
  expect_error(ErrorKind::kUsage, {"1.5", "whole numbers"}, make("ddim", {.timesteps = {20, 1.5}}));
  expect_error(ErrorKind::kUsage, {"--timesteps", "itself"}, make("restart", {.timesteps = {20, 1}}));
  expect_error(ErrorKind::kUsage, {"exclude each other"}, make("euler", {.schedule = "karras", .sigmas = {3, 0}}));
  expect_error(ErrorKind::kUsage, {"exclude each other"}, make("euler", {.sigmas = {3, 0}, .timesteps = {3, 0}}));
  expect_error(ErrorKind::kUsage, {"rho", "no effect"}, make("euler", {.rho = 3}));
  expect_error(ErrorKind::kUsage, {"rho", "above 0"}, make("euler", {.schedule = "karras", .rho = 0}));
  expect_error(ErrorKind::kUsage, {"--scheduler karras", "cannot walk"}, make("ddim", {.schedule = "karras"}));
  expect_error(ErrorKind::kUsage, {"50 timesteps", "distilled"}, make("lcm", {.steps = 51}));
  expect_error(ErrorKind::kUsage, {"sigmas have to fall"}, make("dpm++2m", {.steps = 1000}));  // 1,001 points of 1,000
}

TEST(Refusals, LearnedVarianceNeedsItsChannels) {
  const auto sampler = find_sampler("ddpm").make(config_of({{"variance_type", "learned_range"}}), {.steps = 4});
  expect_error(ErrorKind::kFile, {"variance_type", "no variance channels"}, [&] {
    const Denoiser denoise = make_denoiser([](const Tensor& x, double) { return x; }, PredictionType::kEpsilon);
    sampler->sample(
        denoise, at::ones({1, 1, 1, 1}), [](at::IntArrayRef shape) { return at::ones(shape); }, nullptr);
  });
}

}  // namespace
}  // namespace easel
