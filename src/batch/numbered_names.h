// The names of pictures without -o: 00000-42.png, 00001-43.png, …
#pragma once

#include <cstdint>
#include <filesystem>

namespace easel {

inline constexpr const char* kNumberedName = "{index}-{seed}.png";

// One past the largest index of such names in the folder; 0 when there are none.
int64_t next_free_index(const std::filesystem::path& folder);

}  // namespace easel
