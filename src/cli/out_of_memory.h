// Memory that ran out has many types: ours, libtorch's for devices, libtorch's for the processor, the language's.
#pragma once

#include <optional>

#include "easel/core.h"

namespace easel::cli {

// In a catch block: what is being handled as Error(kMemory), where that is what it says.
std::optional<Error> out_of_memory_in_flight();

}  // namespace easel::cli
