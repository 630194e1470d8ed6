// Names in LoRA files: which module a tensor is of, and what it is there.
#pragma once

#include <optional>
#include <string>

#include "easel/lora.h"

namespace easel {

struct LoraName {
  std::string module;  // as the file has it
  std::string what;    // "lora_down", "alpha", … whatever the spelling
};

// nullopt for names that no kind of LoRA has.
std::optional<LoraName> split_lora_name(const std::string& name);

// Where modules of files lead: all the names that a target's modules are known by → part and module.
class LoraModules {
 public:
  explicit LoraModules(const std::vector<LoraTarget>& targets);

  struct Place {
    std::string part, module;  // of a target: its tensors are module + ".weight" and ".bias"
  };
  std::optional<Place> find(const std::string& module) const;

 private:
  std::map<std::string, Place> places_;
};

}  // namespace easel
