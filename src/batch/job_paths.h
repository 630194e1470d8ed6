// Paths of requests (RequestField::is_path).
#pragma once

#include "easel/pipeline.h"

namespace easel {

// Relative paths lead from `folder`, except for names of bundled models that are not there. An empty folder changes
// nothing.
void lead_paths_from(Request& request, const std::filesystem::path& folder);

}  // namespace easel
