#pragma once

#include <map>

#include "weights/dtypes.h"

namespace easel {

struct StoredTensor {
  const StoredDtype* dtype = nullptr;
  Shape shape;
  uint64_t begin = 0, end = 0;  // bytes of the data that follows the header
};
using StoredTensors = std::map<std::string, StoredTensor>;

struct SafetensorsHeader {
  StoredTensors tensors;
  std::map<std::string, std::string> metadata;  // of a key given twice, the first
};

// The JSON header of a safetensors file followed by `data_size` bytes. Throws Error(kFile) with `where`, the tensor,
// expected and got.
SafetensorsHeader parse_safetensors_header(std::string_view header, uint64_t data_size, const std::string& where);

// The hint of every fault that a damaged or incomplete file shows.
inline constexpr const char* kDamagedFile = "the file is damaged or was not copied whole: get it again";

}  // namespace easel
