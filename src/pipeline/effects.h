// Which fields of a request do something on a checkpoint.
#pragma once

#include "easel/pipeline.h"

namespace easel {

// A field that was given and would change nothing on this one picture.
struct IdleField {
  std::string field;     // "cfg_rescale"
  std::string sentence;  // "--cfg-rescale has no effect at …"
};
using IdleFields = std::vector<IdleField>;

void find_idle_fields(const Request& given, const Request& filled, const Checkpoint& checkpoint,
                      const SamplerRow& sampler, IdleFields& idle);

// They are faults, or left out of the request and told where there are notes.
void settle(const IdleFields& idle, Request& request, Faults& faults, std::vector<std::string>* notes);

std::string flag_of(const RequestField& field);  // "--cfg-rescale"

}  // namespace easel
