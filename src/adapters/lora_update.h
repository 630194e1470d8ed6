// One tensor's change, as its file factors it.
#pragma once

#include <array>

#include "easel/lora.h"

namespace easel {

// The tensors of one module of a file by what they are ("lora_down", "alpha", …), float32.
using LoraTensors = std::map<std::string, Tensor>;

struct LoraUpdate {
  // Multiplied out; of the target's shape.
  std::function<Tensor()> delta;
  double scale = 1;
  Tensor down, up;   // of a plain product: [rank, in, …] and [out, rank]; else undefined
  Tensor magnitude;  // DoRA's, broadcast over the weight; undefined without
};

// What PEFT says beside its tensors.
struct PeftScale {
  std::optional<double> alpha;
  bool rank_stabilised = false;
};

// Throws Error(kFile) with a sentence that begins with `where` when the tensors do not make a change of `shape`.
LoraUpdate make_update(const LoraTensors& tensors, const Shape& shape, const PeftScale& peft, const std::string& where);

}  // namespace easel
