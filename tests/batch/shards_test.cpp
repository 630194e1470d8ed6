// --shard I/N, auto, auto/N.
#include "batch/batch_support.h"

namespace easel {
namespace {

using namespace testing;
using Variables = std::map<std::string, std::string>;

Shard read(const std::string& text, const Variables& variables, Faults& faults) {
  const Environment environment = [&](const std::string& name) -> std::optional<std::string> {
    const auto at = variables.find(name);
    return at == variables.end() ? std::nullopt : std::optional(at->second);
  };
  return parse_shard(text, "--shard", environment, faults);
}

std::string shard_of(const std::string& text, const Variables& variables = {}) {
  Faults faults;
  const Shard shard = read(text, variables, faults);
  EXPECT_TRUE(faults.empty()) << joined(faults);
  return to_string(shard);
}

std::string fault_of(const std::string& text, const Variables& variables = {}) {
  Faults faults;
  read(text, variables, faults);
  EXPECT_EQ(faults.list().size(), 1u) << joined(faults);
  return joined(faults);
}

Variables slurm(int64_t task, int64_t count, int64_t first, int64_t last, int64_t step = 1) {
  return {{"SLURM_ARRAY_TASK_ID", std::to_string(task)},
          {"SLURM_ARRAY_TASK_COUNT", std::to_string(count)},
          {"SLURM_ARRAY_TASK_MIN", std::to_string(first)},
          {"SLURM_ARRAY_TASK_MAX", std::to_string(last)},
          {"SLURM_ARRAY_TASK_STEP", std::to_string(step)}};
}

TEST(Shards, PartsCountFromZero) {
  EXPECT_EQ(shard_of("0/1"), "0/1");
  EXPECT_EQ(shard_of("3/4"), "3/4");
  expect_words(fault_of("4/4"), "--shard \"4/4\": 4 is no part of 4: parts count from 0 to 3");
  for (const char* text : {"", "/", "1/", "/4", "a/4", "1/b", "-1/4", "1/0", "0/0", "1/4/2", " 1/4", "1/4 ", "0.5/1",
                           "+1/4", "1/99999999999999999999", "2", "automatic"})
    expect_words(fault_of(text), "expected I/N, auto or auto/N");
}

TEST(Shards, SlurmArrays) {
  EXPECT_EQ(shard_of("auto", slurm(0, 4, 0, 3)), "0/4");
  EXPECT_EQ(shard_of("auto", slurm(4, 4, 1, 4)), "3/4") << "--array=1-4";
  EXPECT_EQ(shard_of("auto", slurm(20, 3, 10, 30, 10)), "1/3") << "--array=10-30:10";
  EXPECT_EQ(shard_of("auto/4", slurm(3, 1, 3, 3)), "3/4") << "--array=3, again for the one that failed";
  expect_words(fault_of("auto", slurm(7, 3, 1, 7)),
               "not evenly spaced (3 of them from 1); number them 0-2, or say auto/N");
  expect_words(fault_of("auto", {{"SLURM_ARRAY_TASK_ID", "3"}}), "SLURM_ARRAY_TASK_COUNT or _MIN is not; say auto/N");
  expect_words(fault_of("auto", {{"SLURM_ARRAY_TASK_ID", "x"}}),
               "SLURM_ARRAY_TASK_ID is \"x\": expected a whole number");
  expect_words(fault_of("auto/4", slurm(4, 4, 1, 4)), "4 is no part of 4");
}

TEST(Shards, KubernetesIndexedJobs) {
  EXPECT_EQ(shard_of("auto/8", {{"JOB_COMPLETION_INDEX", "7"}}), "7/8");
  expect_words(fault_of("auto", {{"JOB_COMPLETION_INDEX", "7"}}), "say auto/N with the Job's completions");
  expect_words(fault_of("auto/8", {{"JOB_COMPLETION_INDEX", "8"}}), "8 is no part of 8");
  expect_words(fault_of("auto/x", {{"JOB_COMPLETION_INDEX", "8"}}), "expected I/N, auto or auto/N, as auto/4");
  expect_words(fault_of("auto/0", {{"JOB_COMPLETION_INDEX", "0"}}), "expected I/N, auto or auto/N, as auto/4");
}

TEST(Shards, OutsideOfBoth) {
  expect_words(fault_of("auto"), "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; say I/N");
  expect_words(fault_of("auto/4", {{"SLURM_ARRAY_TASK_ID", ""}}), "neither");
  ASSERT_EQ(::setenv("EASEL_TEST_SHARD", "5", 1), 0);
  EXPECT_EQ(process_environment()("EASEL_TEST_SHARD"), "5");
  EXPECT_FALSE(process_environment()("EASEL_TEST_NO_SHARD"));
}

class ShardedJobs : public FolderTest {};

// Together the shards give every picture of the whole run once, with the same index and seed.
TEST_F(ShardedJobs, ShardsArePartsOfTheRun) {
  std::string text;
  for (int i = 0; i < 23; ++i)
    text += "{a|b|c} job " + std::to_string(i) + (i % 3 == 0 ? " --batch-count 3" : "") +
            (i % 5 == 0 ? " --seed 9" : "") + "\n";
  const fs::path file = write("jobs.txt", text);
  const auto pictures = [&](Shard shard) {
    JobOptions options{.flags = {}, .base_seed = 100, .shard = shard, .wildcards = std::make_shared<WildcardSource>()};
    Faults faults;
    options.sweep.add("steps=3,4", "--sweep", faults);
    JobStream stream(JobReader(file), options);
    std::map<int64_t, std::string> found;
    for (JobEvent event = stream.next(); event.kind == JobEvent::Kind::kPicture; event = stream.next()) {
      EXPECT_EQ(event.picture.job % shard.count, shard.index);
      EXPECT_TRUE(found.emplace(event.picture.index, to_json(event.picture.request).dump()).second);
    }
    return found;
  };
  const auto whole = pictures({});
  EXPECT_EQ(whole.size(), 2u * (23 + 2 * 8));
  EXPECT_EQ(whole.rbegin()->first, static_cast<int64_t>(whole.size()) - 1);
  std::map<int64_t, std::string> together;
  for (int64_t i = 0; i < 4; ++i) {
    for (const auto& [index, request] : pictures({i, 4})) EXPECT_TRUE(together.emplace(index, request).second);
  }
  EXPECT_EQ(together, whole);
}

TEST_F(ShardedJobs, BadLinesAreOneShardsOwn) {
  const fs::path file = write("jobs.txt", "a\nb --bad\nc\n");
  const auto bad_lines = [&](Shard shard) {
    JobStream stream(JobReader(file), {.flags = {}, .base_seed = 1, .shard = shard});
    int count = 0;
    for (JobEvent event = stream.next(); event.kind != JobEvent::Kind::kEnd; event = stream.next())
      count += event.kind == JobEvent::Kind::kBadLine;
    return count;
  };
  EXPECT_EQ(bad_lines({0, 2}), 0);
  EXPECT_EQ(bad_lines({1, 2}), 1);
}

}  // namespace
}  // namespace easel
