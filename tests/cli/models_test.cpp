// easel models: what is bundled and what is published, as a table and as JSON.
#include "cli/program.h"
#include "easel/pipeline.h"

namespace easel::testing {
namespace {

using Models = CliTest;

TEST_F(Models, TheBundledModelIsListedAndCanBeNamed) {
  const Result r = run({"models", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  std::vector<json> bundled, published;
  for (const std::string& line : lines_of(r.out)) {
    const json row = json::parse(line);
    (row.contains("folder") ? bundled : published).push_back(row);
  }
  ASSERT_FALSE(bundled.empty());
  for (const json& row : bundled) {
    EXPECT_GT(row.at("bytes").get<int64_t>(), 0);
    EXPECT_NO_THROW(open_checkpoint(find_model(row.at("name"))));
  }
  ASSERT_FALSE(published.empty());
  for (const json& row : published) {
    EXPECT_NE(row.at("licence"), "");
    EXPECT_NE(row.at("repository").get<std::string>().find('/'), std::string::npos);
  }
}

TEST_F(Models, ThePublishedOnesAreOfFamiliesThatLoad) {
  std::set<std::string> families;
  for (const FamilyRow& row : family_table()) families.insert(row.name);
  for (const std::string& line : lines_of(run({"models", "--json"}).out)) {
    const json row = json::parse(line);
    if (!row.contains("family")) continue;
    EXPECT_TRUE(families.contains(row.at("family"))) << line;
  }
}

TEST_F(Models, TheTableNamesModelAndLicence) {
  const Result r = run({"models"});
  EXPECT_EQ(r.code, 0) << r.err;
  expect_words(r.out, {"easel-tiny", "Stable Diffusion 1.5", "CreativeML Open RAIL-M"});
}

}  // namespace
}  // namespace easel::testing
