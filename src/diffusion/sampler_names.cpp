// From what a user or a file calls a sampler to its row.
#include "diffusion/schedule_table.h"
#include "diffusion/spellings.h"

namespace easel {

using namespace diffusion;

bool can_walk(const SamplerRow& sampler, const ScheduleRow& schedule) {
  return walks(sampler.schedules, schedule.name);
}

namespace {

Error unknown_sampler(std::string_view spelling) {
  const std::vector<std::string> near = nearest_names(spelling, spellings_of(sampler_table()));
  return Error(ErrorKind::kUsage, "unknown sampler '" + std::string(spelling) + "'; nearest: " + listed(near),
               "samplers: " + listed(names_of(sampler_table())));
}

}  // namespace

const SamplerRow& find_sampler(std::string_view spelling) {
  if (const SamplerRow* row = row_named(sampler_table(), spelling)) return *row;
  throw unknown_sampler(spelling);
}

SamplerChoice choose_sampler(std::string_view spelling) {
  if (const SamplerRow* row = row_named(sampler_table(), spelling)) return {*row, nullptr};
  const std::string word = normalised(spelling);
  const auto split = [&](const ScheduleRow& schedule, const std::string& ending) -> const SamplerRow* {
    const std::string end = normalised(ending);
    if (schedule.name == "model" || !word.ends_with(end)) return nullptr;
    return row_named(sampler_table(), word.substr(0, word.size() - end.size()));
  };
  for (const ScheduleRow& schedule : schedule_table()) {
    std::vector<std::string> endings = schedule.aliases;
    endings.push_back(schedule.name);
    if (schedule.name == "karras") endings.push_back("k");  // InvokeAI
    for (const std::string& ending : endings) {
      if (const SamplerRow* row = split(schedule, ending)) return {*row, &schedule};
    }
  }
  throw unknown_sampler(spelling);
}

namespace {

// Classes with several rows: what the file says of the algorithm chooses. An empty word: not supported.
std::string name_for(const SchedulerConfig& config) {
  const auto says = [&](const char* field, const json& otherwise) { return config.fields.value(field, otherwise); };
  const std::string& name = config.class_name;
  if (name == "UniPCMultistepScheduler" && says("solver_type", "bh2") == "bh1") return "unipc_bh1";
  if (name == "DPMSolverMultistepScheduler") {
    const json algorithm = says("algorithm_type", "dpmsolver++"), order = says("solver_order", 2);
    const bool sde = algorithm == "sde-dpmsolver++";
    if ((!sde && algorithm != "dpmsolver++" && algorithm != "deis") || (order != 2 && order != 3)) return "";
    return "dpm++" + std::to_string(order.get<int>()) + (sde ? "m_sde" : "m");
  }
  if (name == "DPMSolverSinglestepScheduler") {
    const json algorithm = says("algorithm_type", "dpmsolver++");
    return (algorithm == "dpmsolver++" || algorithm == "deis") && says("solver_order", 2) == 2 ? "dpm++2s" : "";
  }
  if (name == "SASolverScheduler")
    return says("algorithm_type", "data_prediction") == "data_prediction" ? "sa_solver" : "";
  for (const SamplerRow& row : sampler_table()) {
    if (row.reference == name) return row.name;
  }
  return "";
}

}  // namespace

const SamplerRow& sampler_of(const SchedulerConfig& config) {
  const std::string name = name_for(config);
  if (!name.empty()) return find_sampler(name);
  const std::string where = config.where.empty() ? "scheduler_config.json" : config.where;
  const std::string hint = "choose one with --sampler: " + listed(names_of(sampler_table()));
  if (config.class_name.empty())
    throw Error(ErrorKind::kFile, where + ": no _class_name says which sampler the model wants", hint);
  std::string what = where + ": _class_name " + config.class_name;
  for (const char* field : {"algorithm_type", "solver_order"}) {
    if (config.fields.contains(field)) what += std::string(" with ") + field + " " + shown(config.fields.at(field));
  }
  throw Error(ErrorKind::kFile, what + " is not supported", hint);
}

}  // namespace easel
