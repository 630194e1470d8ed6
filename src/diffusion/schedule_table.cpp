// Every schedule, one row each; --scheduler and `easel schedulers` read this. `rule_of` says what a row does to a spec.
#include "diffusion/schedule_table.h"

#include <cmath>

#include "diffusion/spellings.h"

namespace easel {

const std::vector<ScheduleRow>& schedule_table() {
  constexpr const char* kKarrasPaper = "Karras et al. 2022, arXiv:2206.00364";
  constexpr const char* kLinPaper = "Lin et al. 2023, arXiv:2305.08891, table 2";
  constexpr const char* kAysPaper = "Sabour et al. 2024, arXiv:2404.14507";
  static const std::vector<ScheduleRow> rows = {
      {"model", {"default", "automatic", "discrete"}, "scheduler_config.json", "", "what the checkpoint's file says"},
      {"leading", {}, "diffusers timestep_spacing", kLinPaper, ""},
      {"linspace",
       {"normal", "uniform"},
       "diffusers timestep_spacing",
       kLinPaper,
       "normal and uniform of k-diffusion interpolate log sigma: within 1e-4 of it"},
      {"trailing", {}, "diffusers timestep_spacing", kLinPaper, "n steps where diffusers has n + 1 (61, 103, ...)"},
      {"karras", {"use_karras_sigmas"}, "diffusers", kKarrasPaper, ""},
      {"exponential", {"use_exponential_sigmas"}, "diffusers", "k-diffusion, Crowson 2022", ""},
      {"polyexponential", {}, "k-diffusion", "k-diffusion, Crowson 2022", "rho 1, the tools' default, is exponential"},
      {"beta",
       {"use_beta_sigmas"},
       "diffusers",
       "Lee et al. 2024, arXiv:2407.12173",
       "ComfyUI's has the quantiles of timesteps instead of sigmas"},
      {"lu", {"use_lu_lambdas"}, "diffusers", "Lu et al. 2022, arXiv:2206.00927", ""},
      {"sgm_uniform", {"sgm"}, "A1111", "Stability AI generative-models 2023", ""},
      {"simple", {}, "A1111", "ComfyUI 2023", ""},
      {"ays",
       {"align_your_steps", "align_your_steps_sd15", "ays_sd15"},
       "ComfyUI; diffusers AysSchedules",
       kAysPaper,
       "the table of Stable Diffusion 1.5; other than 10 steps by log-linear interpolation"},
      {"ays_sdxl", {"align_your_steps_sdxl"}, "ComfyUI; diffusers AysSchedules", kAysPaper, "the table of SDXL"},
      {"kl_optimal", {}, "ComfyUI", kAysPaper, ""},
  };
  return rows;
}

const ScheduleRow& find_schedule(std::string_view spelling) {
  if (const ScheduleRow* row = diffusion::row_named(schedule_table(), spelling)) return *row;
  const std::vector<std::string> near = nearest_names(spelling, diffusion::spellings_of(schedule_table()));
  throw Error(ErrorKind::kUsage, "unknown schedule '" + std::string(spelling) + "'; nearest: " + listed(near),
              "schedules: " + listed(diffusion::names_of(schedule_table())));
}

namespace diffusion {
namespace {

bool is_spacing(const std::string& name) { return name == "leading" || name == "linspace" || name == "trailing"; }

bool is_of_timesteps(const std::string& name) {
  return is_spacing(name) || name == "sgm_uniform" || name == "simple" || name == "ays" || name == "ays_sdxl";
}

void set_rule(ScheduleSpec& spec, const std::string& name) {
  static const std::vector<std::pair<std::string, SigmaRule>> rules = {{"karras", SigmaRule::kKarras},
                                                                       {"exponential", SigmaRule::kExponential},
                                                                       {"polyexponential", SigmaRule::kPolyexponential},
                                                                       {"beta", SigmaRule::kBeta},
                                                                       {"lu", SigmaRule::kLu},
                                                                       {"sgm_uniform", SigmaRule::kSgmUniform},
                                                                       {"simple", SigmaRule::kSimple},
                                                                       {"ays", SigmaRule::kAys},
                                                                       {"ays_sdxl", SigmaRule::kAysSdxl},
                                                                       {"kl_optimal", SigmaRule::kKlOptimal}};
  if (name == "model") return;
  spec.interpolation = SigmaInterpolation::kLinear;
  spec.sigma_rule = SigmaRule::kSpacing;
  if (is_spacing(name)) {
    spec.timestep_spacing = static_cast<TimestepSpacing>(index_of_word("timestep_spacing", name));
    return;
  }
  for (const auto& [its_name, rule] : rules) {
    if (its_name == name) spec.sigma_rule = rule;
  }
}

Error refused(const std::string& what, const std::string& why) {
  return Error(ErrorKind::kUsage, what + ": " + why, "easel samplers says which schedules a sampler can walk");
}

void check_falling(const char* flag, const std::vector<double>& values, double last_allowed) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool last = i + 1 == values.size();
    const bool falls = i == 0 || values[i] < values[i - 1];
    if (falls && std::isfinite(values[i]) && (values[i] > 0 || (last && values[i] >= last_allowed))) continue;
    throw Error(ErrorKind::kUsage, std::string(flag) + ": number " + std::to_string(i + 1) + " is " + plain(values[i]) +
                                       ": expected finite numbers that fall, only the last may be 0");
  }
}

void set_given_lists(ScheduleSpec& spec, const SamplerOptions& options, Schedules allowed) {
  const bool both = !options.sigmas.empty() && !options.timesteps.empty();
  if (both || !options.schedule.empty())
    throw Error(ErrorKind::kUsage, "--sigmas, --timesteps and --scheduler exclude each other: give one of them");
  if (!options.sigmas.empty()) {
    if (allowed != Schedules::kAny) throw refused("--sigmas", "this sampler does not walk sigmas");
    if (options.sigmas.size() < 2) throw Error(ErrorKind::kUsage, "--sigmas: a step needs two numbers, from and to");
    check_falling("--sigmas", options.sigmas, 0);
    spec.sigma_rule = SigmaRule::kGivenSigmas;
    spec.sigmas = options.sigmas;
    return;
  }
  if (allowed != Schedules::kAny && allowed != Schedules::kTimesteps)
    throw refused("--timesteps", "this sampler chooses its timesteps itself");
  check_falling("--timesteps", options.timesteps, 0);
  if (options.timesteps.front() >= static_cast<double>(spec.num_train_timesteps))
    throw Error(ErrorKind::kUsage, "--timesteps: " + plain(options.timesteps.front()) + ": the model knows 0 to " +
                                       std::to_string(spec.num_train_timesteps - 1));
  spec.sigma_rule = SigmaRule::kGivenTimesteps;
  spec.timesteps = options.timesteps;
}

void set_rho(ScheduleSpec& spec, double rho) {
  if (spec.sigma_rule != SigmaRule::kKarras && spec.sigma_rule != SigmaRule::kPolyexponential)
    throw Error(ErrorKind::kUsage, "rho " + plain(rho) + " has no effect: only karras and polyexponential have it");
  if (!(rho > 0) || !std::isfinite(rho))
    throw Error(ErrorKind::kUsage, "rho " + plain(rho) + ": expected a number above 0");
  spec.rho = rho;
}

}  // namespace

bool walks(Schedules allowed, const std::string& schedule) {
  if (schedule == "model") return true;
  switch (allowed) {
    case Schedules::kAny:
      return true;
    case Schedules::kTimesteps:
      return is_of_timesteps(schedule);
    case Schedules::kSpacings:
      return is_spacing(schedule);
    case Schedules::kKarras:
      return schedule == "karras";
  }
  return false;
}

bool leaves_schedule(const SamplerOptions& options) {
  if (!options.sigmas.empty() || !options.timesteps.empty()) return false;
  return options.schedule.empty() || find_schedule(options.schedule).name == "model";
}

void set_schedule(ScheduleSpec& spec, const SamplerOptions& options, Schedules allowed) {
  const bool given_list = !options.sigmas.empty() || !options.timesteps.empty();
  if (!given_list) check_steps(spec, options.steps);
  if (given_list) {
    set_given_lists(spec, options, allowed);
  } else if (!options.schedule.empty()) {
    const std::string& name = find_schedule(options.schedule).name;
    if (!walks(allowed, name)) throw refused("--scheduler " + name, "this sampler cannot walk it");
    set_rule(spec, name);
  }
  if (options.rho) set_rho(spec, *options.rho);
}

}  // namespace diffusion
}  // namespace easel
