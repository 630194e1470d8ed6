#pragma once

#include "easel/tensor.h"

namespace easel::pickle {

// What becomes of a global; the rules are in pickle_builder.cpp.
enum class Role {
  kOrderedDict,
  kSet,
  kEncode,    // text → bytes: how protocol 2 spells bytes
  kTensorV1,  // (storage, offset, size, stride)
  kTensorV2,  // … requires_grad, hooks, metadata = None
  kTensorV3,  // … requires_grad, hooks, dtype, metadata = None
  kParameter,
  kParameterDict,  // kept as its parameters
  kStorage,
  kDtype,
  kNumpyDtype,
  kNumpyScalar,
  kName,  // a class that stands as a dict's key, never made
};

struct Global {
  std::string_view module, name;
  Role role;
  at::ScalarType dtype = at::ScalarType::Undefined;  // of kStorage and kDtype
};

// Null for what is not on the list.
const Global* find_global(std::string_view module, std::string_view name);

// All of the list.
const std::vector<Global>& known_globals();

// "torch.FloatStorage", printable.
std::string shown_global(std::string_view module, std::string_view name);

// Why tensors of that kind are not read ("sparse tensors are not supported"); empty where the name says nothing.
std::string unsupported_tensors(std::string_view module, std::string_view name);

}  // namespace easel::pickle
