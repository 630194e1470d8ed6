#pragma once

#include "easel/pipeline.h"

namespace easel {

// The table's titles, for messages.
std::string supported_families();

// A JSON object from a file. Throws Error(kFile).
json read_json(const std::filesystem::path& file);

}  // namespace easel
