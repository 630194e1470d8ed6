// A scheduler_config.json as one sampler class reads it: the file's fields over the class's own defaults.
#pragma once

#include <limits>

#include "easel/diffusion.h"

namespace easel::diffusion {

enum class BetaSchedule { kLinear, kScaledLinear, kSquaredCosCapV2, kSigmoid, kLaplace };
enum class TimestepSpacing { kLeading, kLinspace, kTrailing };
enum class VarianceType { kFixedSmall, kFixedSmallLog, kFixedLarge, kFixedLargeLog, kLearned, kLearnedRange };
enum class SigmaInterpolation { kLinear, kLogLinear };
enum class SolverType { kMidpoint, kHeun, kLogRho, kBh1, kBh2 };

// Where the sigmas come from; kSpacing: those of the timesteps that timestep_spacing visits.
enum class SigmaRule {
  kSpacing,
  kKarras,
  kExponential,
  kPolyexponential,
  kBeta,
  kLu,
  kSgmUniform,
  kSimple,
  kAys,
  kAysSdxl,
  kKlOptimal,
  kGivenSigmas,
  kGivenTimesteps,
};

// A field the class does not have keeps the value given here, which means "off".
struct ScheduleSpec {
  std::string where;  // for messages
  std::string class_name;

  int64_t num_train_timesteps = 1000;
  double beta_start = 0, beta_end = 0;
  BetaSchedule beta_schedule = BetaSchedule::kLinear;
  std::vector<double> trained_betas;  // empty: from beta_schedule
  bool rescale_betas_zero_snr = false;

  TimestepSpacing timestep_spacing = TimestepSpacing::kLinspace;
  int64_t steps_offset = 0;
  PredictionType prediction = PredictionType::kEpsilon;

  SigmaRule sigma_rule = SigmaRule::kSpacing;
  std::optional<double> rho;                                       // of karras and polyexponential
  std::vector<double> sigmas, timesteps;                           // of kGivenSigmas, kGivenTimesteps
  std::optional<double> sigma_min, sigma_max;                      // ends of karras, exponential and beta: Euler, UniPC
  SigmaInterpolation interpolation = SigmaInterpolation::kLinear;  // Euler
  bool continuous_timesteps = false;                               // Euler
  bool final_sigma_min = false;  // Euler, DPM-Solver, UniPC: the last sigma is that of t = 0 instead of 0
  double lambda_min_clipped = -std::numeric_limits<double>::infinity();  // DPM-Solver, SA-Solver

  bool set_alpha_to_one = false;                           // DDIM, PNDM: ᾱ before t = 0 is 1, else ᾱ_0
  bool skip_prk_steps = false;                             // PNDM
  VarianceType variance_type = VarianceType::kFixedSmall;  // DDPM
  int64_t original_inference_steps = 50;                   // LCM, TCD: timesteps the student was distilled on
  double timestep_scaling = 10;                            // LCM

  bool clip_sample = false;
  double clip_sample_range = 1.0;
  bool thresholding = false;
  double dynamic_thresholding_ratio = 0.995;
  double sample_max_value = 1.0;

  int solver_order = 2;                            // DPM-Solver, UniPC, DEIS
  SolverType solver_type = SolverType::kMidpoint;  // DPM-Solver: midpoint or heun; UniPC: bh1 or bh2
  bool lower_order_final = true;                   // and SA-Solver
  bool euler_at_final = false;                     // DPM-Solver
  bool predict_x0 = true;                          // UniPC
  std::vector<int64_t> disable_corrector;          // UniPC: after these steps
  int predictor_order = 2, corrector_order = 2;    // SA-Solver
};

// `arguments`: fields that belong to the sampler's name ({"solver_order": 3}) and win over the file's.
// Throws Error(kFile) for values the class cannot honour and for a num_train_timesteps that trained_betas contradicts.
ScheduleSpec read_spec(const SchedulerConfig& config, const std::string& class_name,
                       const json& arguments = json::object());

// The fields diffusers 0.42.1's class has, with the defaults of its constructor; null when the table has no such class.
const json& class_defaults(const std::string& class_name);

// The position of a word in its field's list (config_fields.cpp), which is the order of the enum above.
std::size_t index_of_word(const char* field, const std::string& word);

}  // namespace easel::diffusion
