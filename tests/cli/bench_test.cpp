// easel bench: what it measures and how it tells it.
#include "cli/program.h"

namespace easel::testing {
namespace {

class Bench : public CliTest {
 protected:
  Result bench(const Words& more) const {
    Words arguments = {"bench", "--steps", "2", "-W", "64", "-H", "64", "--dtype", "f32", "--device", "cpu", "-t", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
};

TEST_F(Bench, EveryStage) {
  const Result r = bench({"--json", "--repeats", "2", "--batch-size", "2", "--sampler", "ddim", "--kernels", "plain"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(files(), Words{}) << "pictures are thrown away";
  const json found = json::parse(r.out);
  EXPECT_EQ(found.at("network_calls"), 2);
  EXPECT_EQ(found.at("pictures_at_once"), 2);
  EXPECT_EQ(found.at("machine").at("kernels"), "plain");
  EXPECT_EQ(found.at("machine").at("threads"), 1);
  EXPECT_EQ(found.at("machine").at("dtype"), "f32");
  EXPECT_FALSE(found.at("machine").at("processor").get<std::string>().empty());
  EXPECT_GT(found.at("load"), 0);
  EXPECT_GT(found.at("peak_memory_bytes"), 10'000'000);
  for (const char* stage : {"encode", "sample", "step", "decode", "save", "picture"}) {
    ASSERT_EQ(found.at(stage).size(), 2u) << stage;
    for (const double seconds : found.at(stage)) EXPECT_GT(seconds, 0) << stage;
  }
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(found.at("step")[i].get<double>() * 2, found.at("sample")[i].get<double>(), 1e-9);
    EXPECT_GE(found.at("picture")[i].get<double>() * 2, found.at("sample")[i].get<double>());
  }
}

TEST_F(Bench, AsATable) {
  const Result r = bench({"a cat", "--repeats", "1", "--sampler", "heun"});
  EXPECT_EQ(r.code, 0) << r.err;
  expect_words(r.out, {"fast kernels", "easel-tiny, 64x64, heun, 2 steps, 3 calls, 1 at once", "load ", "encode",
                       "step", "decode", "save", "picture", "peak memory"});
}

TEST_F(Bench, Faults) {
  const Result r = bench({"--kernels", "best", "--repeats", "0", "--warm-up", "x", "--sampler", "eulr"});
  EXPECT_EQ(r.code, 2);
  expect_words(r.err, {"--kernels 'best': expected fast or plain", "--repeats", "--warm-up", "eulr"});
  EXPECT_EQ(bench({"-m", "missing"}).code, 3);
}

}  // namespace
}  // namespace easel::testing
