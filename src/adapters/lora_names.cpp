#include "adapters/lora_names.h"

#include <algorithm>
#include <array>

namespace easel {

namespace {

struct Ending {
  std::string_view ending, what;
};

// The longest first where one ends in another.
constexpr std::array kEndings = {
    Ending{".lora_linear_layer.down.weight", "lora_down"},
    Ending{".lora_linear_layer.up.weight", "lora_up"},
    Ending{"_lora.down.weight", "lora_down"},  // diffusers' attention processors: "…processor.to_q_lora.down.weight"
    Ending{"_lora.up.weight", "lora_up"},
    Ending{".lora.down.weight", "lora_down"},
    Ending{".lora.up.weight", "lora_up"},
    Ending{".lora_down.weight", "lora_down"},
    Ending{".lora_up.weight", "lora_up"},
    Ending{".lora_mid.weight", "lora_mid"},
    Ending{".lora_A.weight", "lora_down"},
    Ending{".lora_B.weight", "lora_up"},
    Ending{".lora_A.default.weight", "lora_down"},
    Ending{".lora_B.default.weight", "lora_up"},
    Ending{".lora_magnitude_vector.weight", "lora_magnitude_vector"},
    Ending{".lora_magnitude_vector.default.weight", "lora_magnitude_vector"},
    Ending{".lora_magnitude_vector", "lora_magnitude_vector"},
    Ending{".dora_scale", "dora_scale"},
    Ending{".alpha", "alpha"},
    Ending{".scalar", "scalar"},
    Ending{".hada_w1_a", "hada_w1_a"},
    Ending{".hada_w1_b", "hada_w1_b"},
    Ending{".hada_w2_a", "hada_w2_a"},
    Ending{".hada_w2_b", "hada_w2_b"},
    Ending{".hada_t1", "hada_t1"},
    Ending{".hada_t2", "hada_t2"},
    Ending{".lokr_w1", "lokr_w1"},
    Ending{".lokr_w1_a", "lokr_w1_a"},
    Ending{".lokr_w1_b", "lokr_w1_b"},
    Ending{".lokr_w2", "lokr_w2"},
    Ending{".lokr_w2_a", "lokr_w2_a"},
    Ending{".lokr_w2_b", "lokr_w2_b"},
    Ending{".lokr_t2", "lokr_t2"},
    Ending{".diff", "diff"},
    Ending{".diff_b", "diff_b"},
};

void replace_once(std::string& text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  if (at != std::string::npos) text.replace(at, from.size(), to);
}

// "….attn1.processor.to_q" → "….attn1.to_q"; its to_out is a list in the network.
std::string without_processor(std::string module) {
  if (module.find(".processor.") == std::string::npos) return module;
  replace_once(module, ".processor.", ".");
  if (module.ends_with(".to_out")) module += ".0";
  return module;
}

std::string with_underscores(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

// kohya's prefixes of each part; "te1" where there are two encoders.
std::vector<std::string> kohya_prefixes(const std::string& part) {
  if (part == "unet") return {"lora_unet_", "lycoris_"};
  if (part == "text_encoder") return {"lora_te_", "lora_te1_"};
  return {"lora_te2_"};
}

constexpr std::string_view kWeight = ".weight";

}  // namespace

std::optional<LoraName> split_lora_name(const std::string& name) {
  for (const Ending& e : kEndings) {
    if (name.ends_with(e.ending) && name.size() > e.ending.size())
      return LoraName{without_processor(name.substr(0, name.size() - e.ending.size())), std::string(e.what)};
  }
  return std::nullopt;
}

LoraModules::LoraModules(const std::vector<LoraTarget>& targets) {
  for (const LoraTarget& target : targets) {
    const bool is_text = target.part != "unet";
    const auto add = [&](const std::string& theirs, const Place& place) {
      for (const std::string& prefix : kohya_prefixes(target.part))
        places_.emplace(prefix + with_underscores(theirs), place);
      places_.emplace(target.part + "." + theirs, place);
      if (!is_text) {
        places_.emplace(theirs, place);
        places_.emplace("base_model.model." + theirs, place);
      }
    };
    const auto module_of = [](const std::string& tensor) {
      return tensor.ends_with(kWeight) ? std::optional(tensor.substr(0, tensor.size() - kWeight.size())) : std::nullopt;
    };
    for (const auto& [tensor, shape] : target.weights) {
      const auto module = module_of(tensor);
      if (!module) continue;
      const Place place{target.part, *module};
      add(*module, place);
      if (is_text) add("text_model." + *module, place);
    }
    for (const auto& [theirs, ours] : target.also) {
      const auto module = module_of(ours), name = module_of(theirs);
      if (module && name) add(*name, {target.part, *module});
    }
  }
}

std::optional<LoraModules::Place> LoraModules::find(const std::string& module) const {
  const auto found = places_.find(module);
  return found == places_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace easel
