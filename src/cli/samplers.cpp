// easel samplers: the sampler table.
#include <algorithm>

#include "cli/arguments.h"
#include "cli/results.h"
#include "easel/diffusion.h"

namespace easel::cli {

namespace {

using Row = std::vector<std::string>;

std::string aliases_of(const SamplerRow& row) {
  std::vector<std::string> others;
  for (const std::string& alias : row.aliases) {
    if (alias != row.reference) others.push_back(alias);
  }
  return others.empty() ? "-" : listed(others);
}

std::vector<Row> cells() {
  std::vector<Row> rows = {{"NAME", "ETA", "STOCHASTIC", "REFERENCE (DIFFUSERS)", "ALIASES", "PAPER"}};
  for (const SamplerRow& row : sampler_table())
    rows.push_back({row.name, row.has_eta ? "yes" : "no", row.stochastic ? "yes" : "no", row.reference, aliases_of(row),
                    row.paper});
  return rows;
}

std::string as_table(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i + 1 < row.size(); ++i) text += row[i] + std::string(widths[i] + 2 - row[i].size(), ' ');
    text += row.back() + "\n";
  }
  return text;
}

std::string as_json_lines() {
  std::string text;
  for (const SamplerRow& row : sampler_table()) {
    const nlohmann::ordered_json line = {
        {"name", row.name},           {"aliases", row.aliases}, {"eta", row.has_eta},  {"stochastic", row.stochastic},
        {"reference", row.reference}, {"paper", row.paper},     {"remark", row.remark}};
    text += line.dump() + "\n";
  }
  return text;
}

}  // namespace

int samplers(const Arguments& arguments) {
  CLI::App app("The samplers that --sampler knows, with every spelling of their names.", "easel samplers");
  const CLI::Option* json = add_switch(app, "--json", "one JSON object a line", "Options");
  Faults faults;
  if (!parse(app, arguments, "", faults)) return 0;
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel samplers --help'");
  print_text(json->count() > 0 ? as_json_lines() : as_table(cells()));
  return 0;
}

}  // namespace easel::cli
