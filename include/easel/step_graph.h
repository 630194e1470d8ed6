// step_graph: the calls that a network repeats from step to step, each captured once as a CUDA graph and replayed. A
// U-Net's call is hundreds of small kernels, whose launches can take longer than their work; a graph is one launch.
#pragma once

#include <map>

#include "easel/tensor.h"

namespace easel {

// What a capture recorded.
class CapturedWork {
 public:
  virtual ~CapturedWork() = default;
  // Runs it again on the memory that it was captured with.
  virtual void replay() = 0;
};

// Where work is captured.
class GraphBackend {
 public:
  virtual ~GraphBackend() = default;
  // Calls work() once, whose kernels are recorded and not run. Throws where they cannot be; the device is then as it
  // was.
  virtual std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) = 0;
};

// CUDA's. Null on another device, with plain kernels, and once a capture has failed in this process.
std::unique_ptr<GraphBackend> cuda_graphs(at::Device device);

// The calls of one way through the steps. Of each kind of call the first is made as it is, which sets up the libraries
// for its shapes; the second is captured; from then on it is replayed. Where a capture fails, all calls are made as
// they are from then on, and a line with --verbose says why. For one thread.
class StepGraphs {
 public:
  using Tensors = std::vector<Tensor>;
  // A function of its inputs alone, of what tells its kind and of memory that stays as it is. It draws no random
  // numbers and reads no value back from the device.
  using Work = std::function<Tensors(const Tensors& inputs)>;
  using Kind = std::vector<int64_t>;

  explicit StepGraphs(std::unique_ptr<GraphBackend> backend) : backend_(std::move(backend)) {}

  bool are_on() const { return backend_ != nullptr; }

  // work(inputs), in memory of its own; undefined tensors may be among both. kind: what the work depends on beside the
  // shapes, strides and dtypes of its inputs. memory: stands for what it reads beside its inputs; another number drops
  // every graph.
  Tensors operator()(const Kind& kind, int64_t memory, const Tensors& inputs, const Work& work);

 private:
  struct Call {
    Tensors inputs, outputs;  // the graph's own
    std::unique_ptr<CapturedWork> graph;
  };

  bool capture(Call& call, const Tensors& inputs, const Work& work);

  std::unique_ptr<GraphBackend> backend_;  // null: nothing is captured
  int64_t memory_ = 0;
  std::map<Kind, Call> calls_;  // by kind and inputs; without a graph until the second of them
};

}  // namespace easel
