// easel schedulers: the schedule table.
#include "cli/arguments.h"
#include "cli/results.h"
#include "cli/table.h"
#include "easel/diffusion.h"

namespace easel::cli {

namespace {

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

Table cells() {
  Table rows = {{"NAME", "ALIASES", "RULE OF", "PAPER", "REMARK"}};
  for (const ScheduleRow& row : schedule_table())
    rows.push_back({row.name, or_dash(listed(row.aliases)), row.reference, or_dash(row.paper), or_dash(row.remark)});
  return rows;
}

std::string as_json_lines() {
  std::string text;
  for (const ScheduleRow& row : schedule_table()) {
    const nlohmann::ordered_json line = {{"name", row.name},
                                         {"aliases", row.aliases},
                                         {"reference", row.reference},
                                         {"paper", row.paper},
                                         {"remark", row.remark}};
    text += line.dump() + "\n";
  }
  return text;
}

}  // namespace

int schedulers(const Arguments& arguments) {
  CLI::App app(
      "The schedules that --scheduler knows, with every spelling of their names; 'easel samplers' says which sampler "
      "can "
      "walk which.",
      "easel schedulers");
  const CLI::Option* json = add_switch(app, "--json", "one JSON object a line", "Options");
  Faults faults;
  if (!parse(app, arguments, "", faults)) return 0;
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel schedulers --help'");
  print_text(json->count() > 0 ? as_json_lines() : aligned(cells()));
  return 0;
}

}  // namespace easel::cli
