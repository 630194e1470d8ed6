// Which fields of a request do something on a checkpoint.
#pragma once

#include "easel/pipeline.h"

namespace easel {

// Adds a fault, with the reason, for every field of `given` that would change nothing on this one picture.
void refuse_without_effect(const Request& given, const Request& filled, const Checkpoint& checkpoint,
                           const SamplerRow& sampler, Faults& faults);

}  // namespace easel
