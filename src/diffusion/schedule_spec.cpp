#include "diffusion/schedule_spec.h"

#include <algorithm>
#include <cmath>

namespace easel {
namespace diffusion {
namespace {

// The constructors' defaults in diffusers 0.42.1. They differ in what matters: DDPM and DDIM clip unless told not to,
// Euler spaces linearly, PNDM alone starts from ᾱ_0.
constexpr const char* kClassDefaults = R"json({
  "DDPMScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "variance_type": "fixed_small", "clip_sample": true, "prediction_type": "epsilon",
    "thresholding": false, "dynamic_thresholding_ratio": 0.995, "clip_sample_range": 1.0, "sample_max_value": 1.0,
    "timestep_spacing": "leading", "steps_offset": 0, "rescale_betas_zero_snr": false},
  "DDIMScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "clip_sample": true, "set_alpha_to_one": true, "steps_offset": 0,
    "prediction_type": "epsilon", "thresholding": false, "dynamic_thresholding_ratio": 0.995,
    "clip_sample_range": 1.0, "sample_max_value": 1.0, "timestep_spacing": "leading",
    "rescale_betas_zero_snr": false},
  "PNDMScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "skip_prk_steps": false, "set_alpha_to_one": false, "prediction_type": "epsilon",
    "timestep_spacing": "leading", "steps_offset": 0},
  "EulerDiscreteScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "prediction_type": "epsilon", "interpolation_type": "linear",
    "use_karras_sigmas": false, "use_exponential_sigmas": false, "use_beta_sigmas": false, "sigma_min": null,
    "sigma_max": null, "timestep_spacing": "linspace", "timestep_type": "discrete", "steps_offset": 0,
    "rescale_betas_zero_snr": false, "final_sigmas_type": "zero"},
  "EulerAncestralDiscreteScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0,
    "rescale_betas_zero_snr": false}
})json";

enum class Kind { kCount, kFlag, kNumber, kWord, kNumbers };

struct Field {
  const char* name;
  Kind kind;
  bool nullable;
  double low, high;  // of kCount, kNumber and each of kNumbers; exclusive for kNumber(s), inclusive for kCount
  std::vector<std::string> words;  // of kWord
};

const std::vector<Field>& known_fields() {
  constexpr double kInf = INFINITY;
  static const std::vector<Field> fields = {
      {"num_train_timesteps", Kind::kCount, false, 2, 1e6, {}},
      {"steps_offset", Kind::kCount, false, 0, 1e6, {}},
      {"beta_start", Kind::kNumber, false, 0, 1, {}},
      {"beta_end", Kind::kNumber, false, 0, 1, {}},
      {"trained_betas", Kind::kNumbers, true, 0, 1, {}},
      {"clip_sample_range", Kind::kNumber, false, 0, kInf, {}},
      {"sample_max_value", Kind::kNumber, false, 0, kInf, {}},
      {"dynamic_thresholding_ratio", Kind::kNumber, false, 0, 1, {}},
      {"sigma_min", Kind::kNumber, true, 0, kInf, {}},
      {"sigma_max", Kind::kNumber, true, 0, kInf, {}},
      {"rescale_betas_zero_snr", Kind::kFlag, false, 0, 0, {}},
      {"set_alpha_to_one", Kind::kFlag, false, 0, 0, {}},
      {"skip_prk_steps", Kind::kFlag, false, 0, 0, {}},
      {"clip_sample", Kind::kFlag, false, 0, 0, {}},
      {"thresholding", Kind::kFlag, false, 0, 0, {}},
      {"use_karras_sigmas", Kind::kFlag, true, 0, 0, {}},
      {"use_exponential_sigmas", Kind::kFlag, true, 0, 0, {}},
      {"use_beta_sigmas", Kind::kFlag, true, 0, 0, {}},
      {"beta_schedule",
       Kind::kWord,
       false,
       0,
       0,
       {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"}},
      {"timestep_spacing", Kind::kWord, false, 0, 0, {"leading", "linspace", "trailing"}},
      {"prediction_type", Kind::kWord, false, 0, 0, {"epsilon", "v_prediction", "sample"}},
      // null in the DPM-Solver files, where it means a network without variances.
      {"variance_type",
       Kind::kWord,
       true,
       0,
       0,
       {"fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range"}},
      {"interpolation_type", Kind::kWord, false, 0, 0, {"linear", "log_linear"}},
      {"timestep_type", Kind::kWord, false, 0, 0, {"discrete", "continuous"}},
      {"final_sigmas_type", Kind::kWord, false, 0, 0, {"zero", "sigma_min"}},
  };
  return fields;
}

// Fields of other diffusers classes: they choose a solver, not the noise the network was trained on, so a file that
// carries them gives the same picture here as in diffusers, which drops them.
const std::vector<std::string>& solver_fields_of_other_classes() {
  static const std::vector<std::string> names = {
      "algorithm_type", "corrector_order", "disable_corrector", "euler_at_final", "lambda_min_clipped",
      "lower_order_final", "noise_sampler_seed", "original_inference_steps", "predict_x0", "predictor_order",
      "quantization_config", "rho", "solver_order", "solver_p", "solver_type", "tau_func", "timestep_scaling",
      "use_lu_lambdas", "eta", "s_noise", "s_churn", "s_tmin", "s_tmax",
      // diffusers before 0.3 wrote these two
      "tensor_format", "timestep_values"};
  return names;
}

// Fields that say the network was trained on other noise than betas describe. They are refused unless switched off.
const std::vector<std::string>& fields_of_other_noise() {
  static const std::vector<std::string> names = {
      "shift",           "flow_shift",          "use_flow_sigmas",   "use_dynamic_shifting", "base_shift",
      "max_shift",       "base_image_seq_len",  "max_image_seq_len", "invert_sigmas",        "shift_terminal",
      "time_shift_type", "stochastic_sampling", "sigma_data",        "sigma_schedule",       "snr_shift_scale"};
  return names;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool within(const json& value, const Field& field) {
  return value.is_number() && value.get<double>() > field.low && value.get<double>() < field.high;
}

// What the field must be, as words for a message, when `value` is not that; else empty.
std::string fault_of(const Field& field, const json& value) {
  if (value.is_null()) return field.nullable ? "" : "expected a value";
  switch (field.kind) {
    case Kind::kCount:
      if (value.is_number_integer() && value.get<double>() >= field.low && value.get<double>() <= field.high) return "";
      return "expected a whole number from " + std::to_string(static_cast<int64_t>(field.low)) + " to " +
             std::to_string(static_cast<int64_t>(field.high));
    case Kind::kFlag:
      return value.is_boolean() ? "" : "expected true or false";
    case Kind::kNumber:
      if (within(value, field)) return "";
      return std::isinf(field.high) ? "expected a number above 0" : "expected a number between 0 and 1";
    case Kind::kWord:
      if (value.is_string() && contains(field.words, value.get<std::string>())) return "";
      return "supported: " + listed(field.words);
    case Kind::kNumbers:
      if (value.is_array() && value.size() >= 2 &&
          std::all_of(value.begin(), value.end(), [&](const json& v) { return within(v, field); }))
        return "";
      return "expected a list of numbers between 0 and 1";
  }
  return "";
}

// use_dynamic_shifting: false, time_shift_type: "exponential" and flow_shift: 1.0 are what the DPM-Solver and UniPC
// classes write for every model.
bool switched_off(const std::string& name, const json& value) {
  if (value.is_null() || value == false) return true;
  if (name == "flow_shift" || name == "shift" || name == "snr_shift_scale") return value == 1.0;
  return name == "time_shift_type";
}

Error refusal(const ScheduleSpec& spec, const std::string& field, const json& value, const std::string& why,
              const std::string& hint = "") {
  return Error(ErrorKind::kFile, spec.where + ": " + field + " is " + shown(value) + ": " + why, hint);
}

// The position of a word in its field's list, which is the order of the enum.
template <typename Enum>
Enum word_of(const json& fields, const char* name) {
  const std::string word = fields.at(name).get<std::string>();
  for (const Field& field : known_fields()) {
    if (field.name != std::string_view(name)) continue;
    const auto found = std::find(field.words.begin(), field.words.end(), word);
    return static_cast<Enum>(found - field.words.begin());
  }
  throw std::logic_error(std::string("no field ") + name);
}

// The value of a field if the class has it and the file does not say null.
bool given(const json& fields, const char* name) { return fields.contains(name) && !fields.at(name).is_null(); }

template <typename T>
void read(const json& fields, const char* name, T& into) {
  if (given(fields, name)) into = fields.at(name).get<T>();
}

void read(const json& fields, const char* name, std::optional<double>& into) {
  if (given(fields, name)) into = fields.at(name).get<double>();
}

void refuse_what_the_class_cannot(const ScheduleSpec& spec, const SchedulerConfig& config, const json& fields) {
  if (given(fields, "use_beta_sigmas") && fields.at("use_beta_sigmas") == true)
    throw refusal(spec, "use_beta_sigmas", true, "the beta schedule is not supported by this sampler",
                  "set it to false, or use_karras_sigmas to true; or choose another sampler with --sampler");
  if (spec.use_karras_sigmas && spec.use_exponential_sigmas)
    throw refusal(spec, "use_exponential_sigmas", true, "use_karras_sigmas is true as well; only one can be");
  if (spec.sigma_min && spec.sigma_max && *spec.sigma_min >= *spec.sigma_max)
    throw refusal(spec, "sigma_min", *spec.sigma_min, "it must be below sigma_max");
  // diffusers' PNDM drops the field and samples a model for other betas than it was trained on.
  if (!fields.contains("rescale_betas_zero_snr") && config.fields.value("rescale_betas_zero_snr", false))
    throw refusal(spec, "rescale_betas_zero_snr", true, spec.class_name + " has no form for zero-terminal SNR",
                  "choose ddim, ddpm, euler or euler_a with --sampler");
  const int64_t count = static_cast<int64_t>(spec.trained_betas.size());
  if (count != 0 && count != spec.num_train_timesteps)
    throw refusal(spec, "trained_betas", "a list of " + std::to_string(count),
                  "num_train_timesteps says " + std::to_string(spec.num_train_timesteps));
}

}  // namespace

const json& class_defaults(const std::string& class_name) {
  static const json classes = json::parse(kClassDefaults);
  static const json none;
  const auto found = classes.find(class_name);
  return found == classes.end() ? none : *found;
}

ScheduleSpec read_spec(const SchedulerConfig& config, const std::string& class_name) {
  json fields = class_defaults(class_name);
  for (auto& [name, value] : fields.items()) {
    if (config.fields.contains(name)) value = config.fields.at(name);
  }
  if (given(class_defaults(class_name), "variance_type") && !given(fields, "variance_type"))
    fields["variance_type"] = class_defaults(class_name).at("variance_type");

  ScheduleSpec spec;
  spec.where = config.where.empty() ? "scheduler_config.json" : config.where;
  spec.class_name = class_name;
  read(fields, "num_train_timesteps", spec.num_train_timesteps);
  read(fields, "beta_start", spec.beta_start);
  read(fields, "beta_end", spec.beta_end);
  spec.beta_schedule = word_of<BetaSchedule>(fields, "beta_schedule");
  read(fields, "trained_betas", spec.trained_betas);
  read(fields, "rescale_betas_zero_snr", spec.rescale_betas_zero_snr);
  spec.timestep_spacing = word_of<TimestepSpacing>(fields, "timestep_spacing");
  read(fields, "steps_offset", spec.steps_offset);
  spec.prediction = word_of<PredictionType>(fields, "prediction_type");
  read(fields, "set_alpha_to_one", spec.set_alpha_to_one);
  read(fields, "skip_prk_steps", spec.skip_prk_steps);
  if (given(fields, "variance_type")) spec.variance_type = word_of<VarianceType>(fields, "variance_type");
  read(fields, "clip_sample", spec.clip_sample);
  read(fields, "clip_sample_range", spec.clip_sample_range);
  read(fields, "thresholding", spec.thresholding);
  read(fields, "dynamic_thresholding_ratio", spec.dynamic_thresholding_ratio);
  read(fields, "sample_max_value", spec.sample_max_value);
  if (given(fields, "interpolation_type"))
    spec.interpolation = word_of<SigmaInterpolation>(fields, "interpolation_type");
  read(fields, "use_karras_sigmas", spec.use_karras_sigmas);
  read(fields, "use_exponential_sigmas", spec.use_exponential_sigmas);
  read(fields, "sigma_min", spec.sigma_min);
  read(fields, "sigma_max", spec.sigma_max);
  spec.continuous_timesteps = given(fields, "timestep_type") && fields.at("timestep_type") == "continuous";
  spec.final_sigma_min = given(fields, "final_sigmas_type") && fields.at("final_sigmas_type") == "sigma_min";
  refuse_what_the_class_cannot(spec, config, fields);
  return spec;
}

}  // namespace diffusion

std::string to_string(PredictionType prediction) {
  switch (prediction) {
    case PredictionType::kEpsilon:
      return "epsilon";
    case PredictionType::kVPrediction:
      return "v_prediction";
    case PredictionType::kSample:
      return "sample";
  }
  return "";
}

SchedulerConfig SchedulerConfig::from_json(const json& file, const std::string& where) {
  using namespace diffusion;
  if (!file.is_object()) throw Error(ErrorKind::kFile, where + ": expected a JSON object of scheduler settings");
  SchedulerConfig config;
  config.where = where;
  Faults faults;
  for (const auto& [name, value] : file.items()) {
    const auto known = std::find_if(known_fields().begin(), known_fields().end(),
                                    [&, &name = name](const Field& field) { return name == field.name; });
    if (name == "_class_name") {
      if (value.is_string())
        config.class_name = value.get<std::string>();
      else
        faults.add(where + ": _class_name is " + shown(value) + ": expected the name of a scheduler class");
    } else if (known != known_fields().end()) {
      const std::string fault = fault_of(*known, value);
      if (!fault.empty())
        faults.add(where + ": " + name + " is " + shown(value) + ": " + fault);
      else
        config.fields[name] = value;
    } else if (contains(fields_of_other_noise(), name)) {
      if (!switched_off(name, value))
        faults.add(where + ": " + name + " is " + shown(value) +
                   ": the model was trained with another kind of noise than betas describe, which is not supported");
    } else if (!name.starts_with("_") && !value.is_null() && !contains(solver_fields_of_other_classes(), name)) {
      log::warn(where + ": unknown field " + name + " ignored");
    }
  }
  faults.raise_if_any(ErrorKind::kFile);
  return config;
}

}  // namespace easel
