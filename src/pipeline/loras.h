// The LoRAs of a request, found and matched with its checkpoint.
#pragma once

#include "easel/lora.h"
#include "easel/pipeline.h"

namespace easel {

struct OpenLora {
  LoraChoice choice;
  std::shared_ptr<const Lora> lora;
};

// --lora's, then the tags of prompts that are read as AUTOMATIC1111's; a strength of 0 for both kinds of network leaves
// one out. Throws Error(kUsage) for tags without --lora-dir and Error(kFile) for names that no file there has, or
// several.
std::vector<LoraChoice> loras_of(const Request& request);

// Opened files are remembered, a few of them. Throws Error(kFile) as Lora::open().
std::vector<OpenLora> open_loras(const Request& request, const Checkpoint& checkpoint);

// What they do to one network.
std::vector<AppliedLora> applied_to(Part part, const std::vector<OpenLora>& loras);

}  // namespace easel
