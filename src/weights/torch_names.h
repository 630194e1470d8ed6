#pragma once

#include <map>

#include "weights/pickle.h"

namespace easel {

// A tensor of a checkpoint: elements `stride` apart from the first byte of `data` on, which ends with the last element.
struct StridedTensor {
  const StoredDtype* dtype;
  Shape shape, stride;
  std::string_view data;
};

struct TorchContents {
  std::map<std::string, StridedTensor> tensors;
  std::map<std::string, std::string> metadata;
};

// The tensors of a dict and of the dicts, lists and tuples in it, named by their keys and places with dots between
// ("string_to_param.*"). Lightning's checkpoints hold {"state_dict": {…}, "optimizer_states": …}: of them the state
// dict's tensors alone. Numbers and words of the outermost dict are metadata. Throws Error(kFile) with `where`: for
// anything but a dict, for no tensors, for names given twice, and for trees beyond any checkpoint.
TorchContents torch_contents(const pickle::Pickle& object, const std::string& where);

}  // namespace easel
