// Which calls are captured, replayed or made as they are, on a device of this file's own. Nothing here says that a GPU
// replays.
#include "easel/step_graph.h"

#include <gtest/gtest.h>

#include "easel/runtime.h"
#include "support/fake_graphs.h"

namespace easel {
namespace {

using namespace testing;
using Tensors = StepGraphs::Tensors;

class StepGraphsTest : public ::testing::Test {
 protected:
  // Twice the first input and the second one added, where there is one, always in the same memory, as a graph does it.
  Tensors work(const Tensors& inputs) {
    ++works_;
    if (!memory_.defined() || memory_.sizes() != inputs[0].sizes()) memory_ = at::empty_like(inputs[0]);
    at::mul_out(memory_, inputs[0], at::scalar_tensor(2, inputs[0].options()));
    if (inputs[1].defined()) memory_.add_(inputs[1]);
    return {memory_, Tensor()};
  }

  Tensor call(StepGraphs& graphs, const Tensor& x, const StepGraphs::Kind& kind = {}, int64_t memory = 0,
              const Tensor& more = {}) {
    const Tensors outputs = graphs(kind, memory, {x, more}, [this](const Tensors& inputs) { return work(inputs); });
    EXPECT_EQ(outputs.size(), 2u);
    EXPECT_FALSE(outputs.at(1).defined());
    return outputs.at(0);
  }

  GraphCounts counts_;
  int works_ = 0;
  Tensor memory_;
};

TEST_F(StepGraphsTest, FirstCallAsItIsSecondCapturedThenReplayed) {
  StepGraphs graphs(std::make_unique<FakeGraphs>(counts_));
  std::vector<Tensor> outputs, wanted;
  for (int i = 0; i < 4; ++i) {
    const Tensor x = at::full({2, 3}, i);
    const Tensor out = call(graphs, x);
    EXPECT_TRUE(at::equal(out, 2 * x)) << i;
    if (i > 0) outputs.push_back(out), wanted.push_back(2 * x);
    EXPECT_EQ(counts_.captures, i > 0 ? 1 : 0);
    EXPECT_EQ(counts_.replays, i);  // a capture runs nothing
  }
  for (std::size_t i = 0; i < outputs.size(); ++i)
    EXPECT_TRUE(at::equal(outputs[i], wanted[i])) << "call " << i << " was written over by a later one";
}

// Each of these is another call: a graph knows only its own shapes, strides, dtypes, kind and present inputs.
TEST_F(StepGraphsTest, AnotherKindOfCallHasAGraphOfItsOwn) {
  StepGraphs graphs(std::make_unique<FakeGraphs>(counts_));
  const Tensor x = at::randn({2, 3}), tall = at::randn({3, 2}), more = at::randn({2, 3});
  struct Call {
    Tensor x;
    StepGraphs::Kind kind = {};
    Tensor more = {};
  };
  const std::vector<Call> calls = {{x}, {tall}, {tall.t()}, {x.to(at::kDouble)}, {x, {1}}, {x, {}, more}};
  for (int round = 0; round < 3; ++round) {
    for (const Call& c : calls) {
      const Tensor want = c.more.defined() ? 2 * c.x + c.more : 2 * c.x;
      EXPECT_TRUE(at::equal(call(graphs, c.x, c.kind, 0, c.more), want));
    }
    EXPECT_EQ(counts_.captures, round > 0 ? 6 : 0);
    EXPECT_EQ(counts_.replays, 6 * round);
  }
}

TEST_F(StepGraphsTest, OtherMemoryDropsEveryGraph) {
  StepGraphs graphs(std::make_unique<FakeGraphs>(counts_));
  const Tensor x = at::randn({2, 3});
  for (int i = 0; i < 3; ++i) call(graphs, x, {}, 1), call(graphs, x, {5}, 1);
  EXPECT_EQ(counts_.captures, 2);
  EXPECT_TRUE(at::equal(call(graphs, x, {}, 2), 2 * x));
  EXPECT_EQ(counts_.dropped, 2);
  EXPECT_EQ(counts_.captures, 2) << "the first call with other memory is made as it is";
  // Alternating memory is never captured.
  for (int i = 0; i < 6; ++i) call(graphs, x, {}, i % 2);
  EXPECT_EQ(counts_.captures, 2);
}

TEST_F(StepGraphsTest, AFailedCaptureIsTheLast) {
  StepGraphs graphs(std::make_unique<FakeGraphs>(counts_, /*fails=*/true));
  for (int i = 0; i < 4; ++i) {
    const Tensor x = at::full({2}, i);
    EXPECT_EQ(graphs.are_on(), i < 2);
    EXPECT_TRUE(at::equal(call(graphs, x), 2 * x));
  }
  EXPECT_EQ(counts_.captures, 1);
  EXPECT_EQ(works_, 4);
}

TEST_F(StepGraphsTest, WithoutABackendEveryCallIsMadeAsItIs) {
  EXPECT_EQ(cuda_graphs(at::kCPU), nullptr);
  StepGraphs graphs(cuda_graphs(at::kCPU));
  EXPECT_FALSE(graphs.are_on());
  for (int i = 0; i < 3; ++i) call(graphs, at::randn({2}));
  EXPECT_EQ(works_, 3);
}

}  // namespace
}  // namespace easel
