// scheduler_config.json: which fields there are, of what type, and which of them describe noise we do not know.
#include <algorithm>
#include <cmath>

#include "diffusion/schedule_spec.h"

namespace easel {
namespace diffusion {
namespace {

enum class Kind { kCount, kFlag, kNumber, kAnyNumber, kWord, kNumbers, kCounts, kNothing };

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
      {"use_lu_lambdas", Kind::kFlag, true, 0, 0, {}},
      {"lower_order_final", Kind::kFlag, false, 0, 0, {}},
      {"euler_at_final", Kind::kFlag, false, 0, 0, {}},
      {"predict_x0", Kind::kFlag, false, 0, 0, {}},
      {"solver_order", Kind::kCount, false, 1, 4, {}},
      {"predictor_order", Kind::kCount, false, 1, 4, {}},
      {"corrector_order", Kind::kCount, false, 1, 4, {}},
      {"original_inference_steps", Kind::kCount, false, 1, 1e6, {}},
      {"timestep_scaling", Kind::kNumber, false, 0, kInf, {}},
      {"lambda_min_clipped", Kind::kAnyNumber, true, 0, 0, {}},  // null: -Infinity, which JSON has not
      {"disable_corrector", Kind::kCounts, false, 0, 1e6, {}},
      {"solver_p", Kind::kNothing, true, 0, 0, {}},            // another scheduler's object
      {"tau_func", Kind::kNothing, true, 0, 0, {}},            // a Python function
      {"noise_sampler_seed", Kind::kNothing, true, 0, 0, {}},  // noise comes from the picture's own stream
      {"solver_type", Kind::kWord, false, 0, 0, {"midpoint", "heun", "logrho", "bh1", "bh2"}},
      {"algorithm_type",
       Kind::kWord,
       false,
       0,
       0,
       {"dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis", "data_prediction", "noise_prediction"}},
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
  static const std::vector<std::string> names = {"quantization_config", "rho", "eta", "s_noise", "s_churn", "s_tmin",
                                                 "s_tmax",
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
    case Kind::kAnyNumber:
      return value.is_number() ? "" : "expected a number";
    case Kind::kNothing:
      return "only null is supported";
    case Kind::kCounts:
      if (value.is_array() &&
          std::all_of(value.begin(), value.end(), [](const json& v) { return v.is_number_unsigned(); }))
        return "";
      return "expected a list of whole numbers";
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

}  // namespace

std::size_t index_of_word(const char* name, const std::string& word) {
  for (const Field& field : known_fields()) {
    if (field.name != std::string_view(name)) continue;
    const auto found = std::find(field.words.begin(), field.words.end(), word);
    return static_cast<std::size_t>(found - field.words.begin());
  }
  throw std::logic_error(std::string("no field ") + name);
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
