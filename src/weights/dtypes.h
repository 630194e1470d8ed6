#pragma once

#include "easel/tensor.h"

namespace easel {

// A dtype of the safetensors format.
struct StoredDtype {
  const char* name;  // "BF16"
  int64_t width;     // bytes
  at::ScalarType type;
  bool loadable;
};

// Null for a word that is none.
const StoredDtype* find_stored_dtype(std::string_view name);
const StoredDtype* find_stored_dtype(at::ScalarType type);
// "F64, F32, …", for messages.
std::string stored_dtype_names();

// Tensor names are the file's own words: those with unprintable characters are shown as JSON, long ones cut.
std::string shown_name(const std::string& name);

}  // namespace easel
