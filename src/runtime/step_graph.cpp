#include "easel/step_graph.h"

#include "easel/core.h"

namespace easel {

namespace {

using Tensors = StepGraphs::Tensors;

// The kind, and all of the inputs but their values.
StepGraphs::Kind key_of(StepGraphs::Kind kind, const Tensors& inputs) {
  for (const Tensor& input : inputs) {
    kind.push_back(input.defined() ? input.dim() : -1);
    if (!input.defined()) continue;
    kind.push_back(static_cast<int64_t>(input.scalar_type()));
    kind.insert(kind.end(), input.sizes().begin(), input.sizes().end());
    kind.insert(kind.end(), input.strides().begin(), input.strides().end());
  }
  return kind;
}

Tensors clones(const Tensors& tensors) {
  Tensors copies;
  for (const Tensor& tensor : tensors) copies.push_back(tensor.defined() ? tensor.clone() : Tensor());
  return copies;
}

void copy(const Tensors& from, Tensors& to) {
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i].defined()) to[i].copy_(from[i]);
  }
}

}  // namespace

bool StepGraphs::capture(Call& call, const Tensors& inputs, const Work& work) {
  try {
    call.inputs = clones(inputs);
    call.graph = backend_->capture([&call, work] { call.outputs = work(call.inputs); });
    return true;
  } catch (const std::exception& error) {
    const std::string what = error.what();
    log::verbose("the steps run without a CUDA graph: " + what.substr(0, what.find('\n')));
  }
  calls_.clear();
  backend_.reset();
  return false;
}

Tensors StepGraphs::operator()(const Kind& kind, int64_t memory, const Tensors& inputs, const Work& work) {
  if (!are_on()) return work(inputs);
  if (memory != memory_) calls_.clear();
  memory_ = memory;
  const auto [entry, is_first] = calls_.try_emplace(key_of(kind, inputs));
  if (is_first) return work(inputs);
  Call& call = entry->second;
  if (call.graph)
    copy(inputs, call.inputs);
  else if (!capture(call, inputs, work))
    return work(inputs);
  call.graph->replay();
  return clones(call.outputs);
}

}  // namespace easel
