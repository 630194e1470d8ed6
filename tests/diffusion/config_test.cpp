// scheduler_config.json: what a class inherits, and that nothing it says is lost.
#include <cmath>

#include "diffusion/sampling.h"
#include "diffusion/schedule_spec.h"

namespace easel {
namespace {

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
  EXPECT_EQ(sampler_of(config).make(config, {.steps = 20})->steps().front().t, 951);
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
  EXPECT_EQ(sampler_of(config).name, "dpm++2m");
}

TEST(Inheritance, EveryFieldOfEveryClassIsReadOrRefused) {
  // The least one can change in each field's value; what a class reads must then change what its sampler does, and what
  // it cannot honour must be named. Only fields that diffusers itself ignores in that class may have no effect.
  const json changed = {{"num_train_timesteps", 500},
                        {"beta_start", 0.001},
                        {"beta_end", 0.015},
                        {"beta_schedule", "squaredcos_cap_v2"},
                        {"trained_betas", json::array()},
                        {"variance_type", "fixed_large"},
                        {"clip_sample", true},
                        {"prediction_type", "v_prediction"},
                        {"thresholding", true},
                        {"timestep_spacing", "trailing"},
                        {"steps_offset", 1},
                        {"set_alpha_to_one", false},
                        {"skip_prk_steps", true},
                        {"interpolation_type", "log_linear"},
                        {"use_karras_sigmas", true},
                        {"use_exponential_sigmas", true},
                        {"use_beta_sigmas", true},
                        {"use_lu_lambdas", true},
                        {"sigma_min", 0.3},
                        {"sigma_max", 3.0},
                        {"timestep_type", "continuous"},
                        {"final_sigmas_type", "sigma_min"},
                        {"solver_type", "heun"},
                        {"lower_order_final", false},
                        {"euler_at_final", true},
                        {"lambda_min_clipped", -1.0},
                        {"predict_x0", false},
                        {"disable_corrector", {0, 1, 2}},
                        {"predictor_order", 1},
                        {"corrector_order", 1},
                        {"original_inference_steps", 20},
                        {"timestep_scaling", 0.001},
                        {"clip_sample_range", 0.3},
                        {"dynamic_thresholding_ratio", 0.5},
                        {"sample_max_value", 1.3},
                        {"rescale_betas_zero_snr", true},
                        {"solver_p", "DDIMScheduler"},
                        {"tau_func", "f"},
                        {"noise_sampler_seed", 7}};
  // Read by diffusers into the object and never used by its steps, or chosen by the sampler's name.
  const auto without_effect = [](const std::string& name, const std::string& field) {
    if (field == "algorithm_type" || field == "solver_order") return true;  // tests/diffusion/names_test.cpp
    if (field == "variance_type") return name != "ddpm";                    // learned: cuts the network's channels
    if (field == "solver_type") return !name.starts_with("dpm++");          // UniPC's and DEIS's are in the name
    if (name == "tcd")
      return field == "clip_sample" || field == "clip_sample_range" || field == "thresholding" ||
             field == "dynamic_thresholding_ratio" || field == "sample_max_value" || field == "timestep_scaling" ||
             field == "set_alpha_to_one" || field == "timestep_spacing" || field == "steps_offset";
    if (name == "lcm") return field == "set_alpha_to_one" || field == "timestep_spacing" || field == "steps_offset";
    return false;
  };
  const auto end_of = [](const SamplerRow& row, const json& fields) {
    const auto sampler = row.make(config_of(fields), {.steps = 8});
    at::Generator generator = at::detail::createCPUGenerator(5);
    const NoiseSource noise = noise_of(generator);
    const Network network = [](const Tensor& x, double t) { return x * std::cos(t / 300) + 0.3 * at::sin(4 * x); };
    return sampler->sample(make_denoiser(network, sampler->prediction()),
                           2 * noise({1, 2, 4, 4}) * sampler->init_scale(), noise, nullptr);
  };
  for (const SamplerRow& row : sampler_table()) {
    const json defaults = diffusion::class_defaults(row.reference);
    for (const auto& [field, value] : defaults.items()) {
      SCOPED_TRACE(row.name + " " + field);
      if (without_effect(row.name, field)) continue;
      // Fields that need another one to show.
      json before = {{"clip_sample", false}};
      if (field == "steps_offset") before["timestep_spacing"] = "leading";
      if (field == "clip_sample_range") before["clip_sample"] = true;
      if (field == "dynamic_thresholding_ratio" || field == "sample_max_value")
        before.update({{"thresholding", true}, {"sample_max_value", 1.5}, {"dynamic_thresholding_ratio", 0.9}});
      if (field == "sigma_min" || field == "sigma_max") before["use_karras_sigmas"] = true;
      if (field == "timestep_type" || field == "rescale_betas_zero_snr") before["prediction_type"] = "v_prediction";
      if (field == "rescale_betas_zero_snr") before["timestep_spacing"] = "trailing";
      if (field == "euler_at_final" || field == "lower_order_final") before["final_sigmas_type"] = "sigma_min";
      if (field == "euler_at_final") before["lower_order_final"] = false;
      if (field == "lower_order_final" && row.name == "dpm++2s") continue;  // an even run that ends at sigma_min, below
      if (field == "skip_prk_steps") before["skip_prk_steps"] = false;
      json after = before;
      after[field] = value.is_boolean() ? json(!before.value(field, value.get<bool>())) : changed.at(field);
      if (field == "trained_betas") after[field] = std::vector<double>(1000, 0.01);
      try {
        const Tensor old_end = end_of(row, before), new_end = end_of(row, after);
        EXPECT_FALSE(at::allclose(old_end, new_end, 1e-9, 1e-9));
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
      }
    }
  }
}

TEST(Inheritance, SinglestepPairsToTheEndWhereTheFileSaysSo) {
  const auto row = find_sampler("dpm++2s");
  const json pairs = {{"final_sigmas_type", "sigma_min"}, {"lower_order_final", false}};
  json lowered = pairs;
  lowered["lower_order_final"] = true;
  const auto end = [&](const json& fields) {
    const Denoiser denoise =
        make_denoiser([](const Tensor& x, double) { return at::sin(x); }, PredictionType::kEpsilon);
    return row.make(config_of(fields), {.steps = 8})->sample(denoise, at::ones({1, 1, 1, 1}), nullptr, nullptr);
  };
  EXPECT_FALSE(at::equal(end(pairs), end(lowered)));
}

TEST(Inheritance, ASchedulesNameIsTheFilesField) {
  for (const SamplerRow& row : sampler_table()) {
    const json defaults = diffusion::class_defaults(row.reference);
    for (const auto& [schedule, field] : std::vector<std::pair<std::string, std::string>>{
             {"karras", "use_karras_sigmas"}, {"exponential", "use_exponential_sigmas"}, {"beta", "use_beta_sigmas"}}) {
      if (!defaults.contains(field) || row.schedules != Schedules::kAny) continue;
      const auto by_name = row.make(config_of(json::object()), {.steps = 7, .schedule = schedule})->steps();
      const auto by_field = row.make(config_of({{field, true}}), {.steps = 7})->steps();
      ASSERT_EQ(by_name.size(), by_field.size());
      for (std::size_t i = 0; i < by_name.size(); ++i) EXPECT_EQ(by_name[i].sigma, by_field[i].sigma) << row.name;
      // And the spacing's name takes the field back.
      const auto spaced = row.make(config_of({{field, true}}), {.steps = 7, .schedule = "linspace"})->steps();
      EXPECT_NE(spaced[3].sigma, by_field[3].sigma) << row.name << " " << schedule;
    }
  }
}

}  // namespace
}  // namespace easel
