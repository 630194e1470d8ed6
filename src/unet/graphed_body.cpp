#include "unet/graphed_body.h"

namespace easel {

namespace {

using Tensors = StepGraphs::Tensors;

// Which of the body's calls it is.
struct CallKind {
  bool has_control, has_deep, is_reused;
  int64_t branch;
};

CallKind kind_of(const ControlResiduals* control, const DeepFeature* deep) {
  return {.has_control = control != nullptr,
          .has_deep = deep != nullptr,
          .is_reused = deep != nullptr && deep->is_reused,
          .branch = deep != nullptr ? deep->branch : 0};
}

// x, time, the control of the middle, the kept feature, and the control of the way down.
Tensors inputs_of(const Tensor& x, const Tensor& time, const ControlResiduals* control, const DeepFeature* deep) {
  const bool is_reused = deep != nullptr && deep->is_reused;
  Tensors inputs = {x, time, control != nullptr ? control->mid : Tensor(), is_reused ? deep->x : Tensor()};
  if (control != nullptr) inputs.insert(inputs.end(), control->down.begin(), control->down.end());
  return inputs;
}

// The result, and the feature to keep where the call makes one.
Tensors call(const UNetBody& body, const TextContext& text, const CallKind& kind, const Tensors& in) {
  std::optional<ControlResiduals> control;
  if (kind.has_control) control = {.down = {in.begin() + 4, in.end()}, .mid = in[2]};
  DeepFeature deep = {.branch = kind.branch, .is_reused = kind.is_reused, .x = in[3]};
  Tensor out = body(in[0], in[1], text, control ? &*control : nullptr, kind.has_deep ? &deep : nullptr);
  return {std::move(out), kind.is_reused ? Tensor() : deep.x};
}

int64_t number_of(const void* address) { return static_cast<int64_t>(reinterpret_cast<std::intptr_t>(address)); }

}  // namespace

Tensor graphed(const UNetBody& body, StepGraphs& graphs, const Tensor& x, const Tensor& time, const TextContext& text,
               const ControlResiduals* control, DeepFeature* deep) {
  const CallKind kind = kind_of(control, deep);
  const StepGraphs::Kind numbers = {
      number_of(&body), number_of(text.projections), kind.has_control, kind.has_deep, kind.is_reused, kind.branch};
  // The projections' memory is read in place: the first call of each kind, which is no capture, has put it there.
  const Tensors out = graphs(numbers, text.projections->texts(), inputs_of(x, time, control, deep),
                             [&body, text, kind](const Tensors& inputs) { return call(body, text, kind, inputs); });
  if (kind.has_deep && !kind.is_reused) deep->x = out[1];
  return out[0];
}

}  // namespace easel
