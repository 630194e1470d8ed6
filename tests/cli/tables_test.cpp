// easel schedulers, and what `easel samplers` says beyond the rows that usage_test.cpp walks.
#include <map>

#include "cli/program.h"
#include "easel/diffusion.h"

namespace easel::testing {
namespace {

class Tables : public CliTest {};

TEST_F(Tables, SchedulersListsTheWholeTable) {
  const Result table = run({"schedulers"}), lines = run({"schedulers", "--json"});
  EXPECT_EQ(table.code, 0);
  const Words rows = lines_of(table.out), objects = lines_of(lines.out);
  ASSERT_EQ(rows.size(), schedule_table().size() + 1);
  ASSERT_EQ(objects.size(), schedule_table().size());
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const ScheduleRow& row = schedule_table()[i];
    EXPECT_NE(rows[i + 1].find(row.name), std::string::npos);
    EXPECT_NE(rows[i + 1].find(row.reference), std::string::npos);
    const json object = json::parse(objects[i]);
    EXPECT_EQ(object.at("name"), row.name);
    EXPECT_EQ(object.at("aliases"), json(row.aliases));
  }
}

TEST_F(Tables, SamplersSayOrderCallsAndSchedules) {
  const Words objects = lines_of(run({"samplers", "--json"}).out);
  ASSERT_EQ(objects.size(), sampler_table().size());
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const SamplerRow& row = sampler_table()[i];
    const json object = json::parse(objects[i]);
    EXPECT_EQ(object.at("order"), row.order);
    EXPECT_EQ(object.at("calls_per_step"), row.calls_per_step);
    EXPECT_EQ(object.contains("default_eta"), row.has_eta);
    std::size_t walkable = 0;
    for (const ScheduleRow& schedule : schedule_table()) walkable += can_walk(row, schedule);
    EXPECT_EQ(object.at("schedules").size(), walkable);
  }
}

TEST_F(Tables, ErrorsFallWithTheNumberOfCalls) {
  std::map<std::string, std::vector<double>> errors;
  for (const std::string& line : lines_of(run({"samplers", "--errors", "--json"}).out)) {
    const json object = json::parse(line);
    errors[object.at("sampler")].push_back(object.at("error"));
  }
  EXPECT_EQ(errors.size(), sampler_table().size() - 2);  // lcm and tcd are for distilled models
  for (const auto& [name, values] : errors) EXPECT_LT(values.back(), 0.3 * values.front()) << name;
}

}  // namespace
}  // namespace easel::testing
