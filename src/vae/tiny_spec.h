#pragma once

#include "easel/vae.h"

namespace easel {

bool is_tiny_vae(const json& config);

// Of a config for which is_tiny_vae(). Throws Error(kFile) with every fault.
VaeSpec tiny_spec_from_json(const json& config, const std::string& where);

}  // namespace easel
