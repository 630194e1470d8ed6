// The tensor type of the whole program. This header is the precompiled one; nothing includes <torch/torch.h>.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace easel {

using at::Tensor;
using json = nlohmann::json;
using Shape = std::vector<int64_t>;

// "[2, 4, 64, 64]", for messages.
std::string to_string(at::IntArrayRef shape);

// A value of a file, cut at 60 characters, for messages.
std::string shown(const json& value);

}  // namespace easel
