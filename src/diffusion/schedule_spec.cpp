#include "diffusion/schedule_spec.h"

namespace easel::diffusion {
namespace {

Error refusal(const ScheduleSpec& spec, const std::string& field, const json& value, const std::string& why,
              const std::string& hint = "") {
  return Error(ErrorKind::kFile, spec.where + ": " + field + " is " + shown(value) + ": " + why, hint);
}

// The value of a field if the class has it and the file does not say null.
bool given(const json& fields, const char* name) { return fields.contains(name) && !fields.at(name).is_null(); }

bool is_set(const json& fields, const char* name) { return given(fields, name) && fields.at(name) == true; }

bool says(const json& fields, const char* name, const char* word) {
  return given(fields, name) && fields.at(name) == word;
}

template <typename T>
void read(const json& fields, const char* name, T& into) {
  if (given(fields, name)) into = fields.at(name).get<T>();
}

void read(const json& fields, const char* name, std::optional<double>& into) {
  if (given(fields, name)) into = fields.at(name).get<double>();
}

template <typename Enum>
void read_word(const json& fields, const char* name, Enum& into) {
  if (given(fields, name)) into = static_cast<Enum>(index_of_word(name, fields.at(name).get<std::string>()));
}

SigmaRule sigma_rule_of(const ScheduleSpec& spec, const json& fields) {
  constexpr std::pair<const char*, SigmaRule> kRules[] = {{"use_karras_sigmas", SigmaRule::kKarras},
                                                          {"use_exponential_sigmas", SigmaRule::kExponential},
                                                          {"use_beta_sigmas", SigmaRule::kBeta},
                                                          {"use_lu_lambdas", SigmaRule::kLu}};
  const char* chosen = nullptr;
  SigmaRule rule = SigmaRule::kSpacing;
  for (const auto& [name, its_rule] : kRules) {
    if (!is_set(fields, name)) continue;
    if (chosen) throw refusal(spec, name, true, std::string(chosen) + " is true as well; only one can be");
    chosen = name;
    rule = its_rule;
  }
  return rule;
}

void refuse_what_the_class_cannot(const ScheduleSpec& spec, const SchedulerConfig& config, const json& fields) {
  if (spec.sigma_min && spec.sigma_max && *spec.sigma_min >= *spec.sigma_max)
    throw refusal(spec, "sigma_min", *spec.sigma_min, "it must be below sigma_max");
  // diffusers drops the field and samples a model for other betas than it was trained on.
  if (!fields.contains("rescale_betas_zero_snr") && config.fields.value("rescale_betas_zero_snr", false))
    throw refusal(spec, "rescale_betas_zero_snr", true, spec.class_name + " has no form for zero-terminal SNR",
                  "choose ddim, ddpm, euler, euler_a, dpm++2m or unipc with --sampler");
  const int64_t count = static_cast<int64_t>(spec.trained_betas.size());
  if (count != 0 && count != spec.num_train_timesteps)
    throw refusal(spec, "trained_betas", "a list of " + std::to_string(count),
                  "num_train_timesteps says " + std::to_string(spec.num_train_timesteps));
}

// The class's defaults, over them what the file says of fields the class has, over them the sampler's own arguments.
json merged(const SchedulerConfig& config, const std::string& class_name, const json& arguments) {
  const json& defaults = class_defaults(class_name);
  json fields = defaults;
  for (auto& [name, value] : fields.items()) {
    if (config.fields.contains(name)) value = config.fields.at(name);
  }
  if (given(defaults, "variance_type") && !given(fields, "variance_type"))
    fields["variance_type"] = defaults.at("variance_type");
  fields.update(arguments);
  return fields;
}

void read_noise(const json& fields, ScheduleSpec& spec) {
  read(fields, "num_train_timesteps", spec.num_train_timesteps);
  read(fields, "beta_start", spec.beta_start);
  read(fields, "beta_end", spec.beta_end);
  read_word(fields, "beta_schedule", spec.beta_schedule);
  read(fields, "trained_betas", spec.trained_betas);
  read(fields, "rescale_betas_zero_snr", spec.rescale_betas_zero_snr);
  read_word(fields, "prediction_type", spec.prediction);
}

void read_steps(const json& fields, ScheduleSpec& spec) {
  read_word(fields, "timestep_spacing", spec.timestep_spacing);
  read(fields, "steps_offset", spec.steps_offset);
  spec.sigma_rule = sigma_rule_of(spec, fields);
  read(fields, "sigma_min", spec.sigma_min);
  read(fields, "sigma_max", spec.sigma_max);
  read_word(fields, "interpolation_type", spec.interpolation);
  spec.continuous_timesteps = says(fields, "timestep_type", "continuous");
  spec.final_sigma_min = says(fields, "final_sigmas_type", "sigma_min");
  read(fields, "lambda_min_clipped", spec.lambda_min_clipped);
  read(fields, "original_inference_steps", spec.original_inference_steps);
}

void read_solver(const json& fields, ScheduleSpec& spec) {
  read(fields, "set_alpha_to_one", spec.set_alpha_to_one);
  read(fields, "skip_prk_steps", spec.skip_prk_steps);
  read_word(fields, "variance_type", spec.variance_type);
  read(fields, "timestep_scaling", spec.timestep_scaling);
  read(fields, "clip_sample", spec.clip_sample);
  read(fields, "clip_sample_range", spec.clip_sample_range);
  read(fields, "thresholding", spec.thresholding);
  read(fields, "dynamic_thresholding_ratio", spec.dynamic_thresholding_ratio);
  read(fields, "sample_max_value", spec.sample_max_value);
  read(fields, "solver_order", spec.solver_order);
  read_word(fields, "solver_type", spec.solver_type);
  read(fields, "lower_order_final", spec.lower_order_final);
  read(fields, "euler_at_final", spec.euler_at_final);
  read(fields, "predict_x0", spec.predict_x0);
  read(fields, "disable_corrector", spec.disable_corrector);
  read(fields, "predictor_order", spec.predictor_order);
  read(fields, "corrector_order", spec.corrector_order);
}

}  // namespace

ScheduleSpec read_spec(const SchedulerConfig& config, const std::string& class_name, const json& arguments) {
  const json fields = merged(config, class_name, arguments);
  ScheduleSpec spec;
  spec.where = config.where.empty() ? "scheduler_config.json" : config.where;
  spec.class_name = class_name;
  read_noise(fields, spec);
  read_steps(fields, spec);
  read_solver(fields, spec);
  refuse_what_the_class_cannot(spec, config, fields);
  return spec;
}

}  // namespace easel::diffusion
