// A device that captures, for the bookkeeping of graphs on the CPU.
#pragma once

#include "easel/step_graph.h"

namespace easel::testing {

// What was done.
struct GraphCounts {
  int captures = 0, replays = 0, dropped = 0;
};

// A graph that calls its work again.
class FakeWork : public CapturedWork {
 public:
  FakeWork(std::function<void()> work, GraphCounts& counts) : work_(std::move(work)), counts_(counts) {}
  ~FakeWork() override { ++counts_.dropped; }
  void replay() override {
    ++counts_.replays;
    work_();
  }

 private:
  std::function<void()> work_;
  GraphCounts& counts_;
};

// fails: as a device that cannot capture.
class FakeGraphs : public GraphBackend {
 public:
  explicit FakeGraphs(GraphCounts& counts, bool fails = false) : counts_(counts), fails_(fails) {}
  std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) override {
    ++counts_.captures;
    TORCH_CHECK(!fails_, "operation not permitted when stream is capturing");
    work();
    return std::make_unique<FakeWork>(work, counts_);
  }

 private:
  GraphCounts& counts_;
  bool fails_;
};

}  // namespace easel::testing
