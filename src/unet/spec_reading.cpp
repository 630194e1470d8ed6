#include "unet/spec_reading.h"

namespace easel {

SampleSize read_sample_size(ConfigReader& config, const json& file, std::optional<int64_t> fallback) {
  const auto size = file.find("sample_size");
  if (size == file.end() || !size->is_array()) {
    const int64_t side = config.integer("sample_size", fallback);
    return {.height = side, .width = side};
  }
  const std::vector<int64_t> sides = config.integers("sample_size", 2);
  return {.height = sides[0], .width = sides[1]};
}

std::vector<std::string> read_block_types(ConfigReader& config, const char* name, std::size_t count,
                                          const std::vector<std::string>& supported) {
  std::vector<std::string> types = config.words(name, supported);
  if (types.size() == count || types.empty()) return types;
  config.fault(name, "expected as many as block_out_channels");
  return {};
}

}  // namespace easel
