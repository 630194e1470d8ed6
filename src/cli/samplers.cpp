// easel samplers: the sampler table.
#include "cli/arguments.h"
#include "cli/results.h"
#include "cli/sampler_errors.h"
#include "cli/table.h"
#include "easel/diffusion.h"

namespace easel::cli {

namespace {

std::string aliases_of(const SamplerRow& row) {
  std::vector<std::string> others;
  for (const std::string& alias : row.aliases) {
    if (alias != row.reference) others.push_back(alias);
  }
  return others.empty() ? "-" : listed(others);
}

std::vector<std::string> schedules_of(const SamplerRow& row) {
  std::vector<std::string> names;
  for (const ScheduleRow& schedule : schedule_table()) {
    if (can_walk(row, schedule)) names.push_back(schedule.name);
  }
  return names;
}

std::string shown_schedules(const SamplerRow& row) {
  return row.schedules == Schedules::kAny ? "any" : listed(schedules_of(row));
}

Table cells() {
  Table rows = {{"NAME", "ORDER", "CALLS", "ETA", "STOCHASTIC", "REFERENCE", "ALIASES", "PAPER", "SCHEDULES"}};
  for (const SamplerRow& row : sampler_table())
    rows.push_back({row.name, std::to_string(row.order), std::to_string(row.calls_per_step),
                    row.has_eta ? "yes, " + plain(row.default_eta) : "no", row.stochastic ? "yes" : "no", row.reference,
                    aliases_of(row), row.paper, shown_schedules(row)});
  return rows;
}

std::string as_json_lines() {
  std::string text;
  for (const SamplerRow& row : sampler_table()) {
    nlohmann::ordered_json line = {{"name", row.name},
                                   {"aliases", row.aliases},
                                   {"order", row.order},
                                   {"calls_per_step", row.calls_per_step},
                                   {"eta", row.has_eta}};
    if (row.has_eta) line["default_eta"] = row.default_eta;
    line["stochastic"] = row.stochastic;
    line["schedules"] = schedules_of(row);
    line["reference"] = row.reference;
    line["paper"] = row.paper;
    line["remark"] = row.remark;
    text += line.dump() + "\n";
  }
  return text;
}

std::string errors_as_json_lines() {
  std::string text;
  for (const SamplerError& e : sampler_errors()) {
    const nlohmann::ordered_json line = {
        {"sampler", e.sampler}, {"steps", e.steps}, {"calls", e.calls}, {"error", e.error}};
    text += line.dump() + "\n";
  }
  return text;
}

std::string errors_as_table() {
  Table rows = {{"NAME", "STEPS", "CALLS", "ERROR"}};
  for (const SamplerError& e : sampler_errors())
    rows.push_back({e.sampler, std::to_string(e.steps), std::to_string(e.calls), json(e.error).dump()});
  return aligned(rows);
}

}  // namespace

int samplers(const Arguments& arguments) {
  CLI::App app(
      "The samplers that --sampler knows, with every spelling of their names. ORDER: of convergence on the probability "
      "flow ODE, without noise. CALLS: of the network a step. ETA: whether --eta matters, and its default.",
      "easel samplers");
  const CLI::Option* as_json = add_switch(app, "--json", "one JSON object a line", "Options");
  const CLI::Option* errors = add_switch(
      app, "--errors",
      "how far each ends from a Gaussian target whose ideal network is known, by number of network calls", "Options");
  Faults faults;
  if (!parse(app, arguments, "", faults)) return 0;
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel samplers --help'");
  const bool lines = as_json->count() > 0;
  if (errors->count() > 0)
    print_text(lines ? errors_as_json_lines() : errors_as_table());
  else
    print_text(lines ? as_json_lines() : aligned(cells()));
  return 0;
}

}  // namespace easel::cli
