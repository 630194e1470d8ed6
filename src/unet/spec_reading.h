// Fields that both kinds of U-Net have in their config.json.
#pragma once

#include "easel/nn.h"

namespace easel {

struct SampleSize {
  int64_t height, width;
};

// sample_size: one number, or [height, width].
SampleSize read_sample_size(ConfigReader& config, const json& file, std::optional<int64_t> fallback);

// down_block_types or up_block_types: one of `supported` for each of `count` levels; empty after a fault.
std::vector<std::string> read_block_types(ConfigReader& config, const char* name, std::size_t count,
                                          const std::vector<std::string>& supported);

}  // namespace easel
