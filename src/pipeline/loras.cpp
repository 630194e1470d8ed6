#include "pipeline/loras.h"

#include <algorithm>

#include "pipeline/stages.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

std::vector<LoraTag> tags_of(const Request& r) {
  std::vector<LoraTag> tags;
  if (r.prompt_syntax.value_or("raw") == "raw") return tags;
  for (const auto* prompt : {&r.prompt, &r.prompt_2}) {
    if (!*prompt) continue;
    for (LoraTag& tag : without_tags(**prompt).loras) tags.push_back(std::move(tag));
  }
  return tags;
}

// With or without its extension.
fs::path file_of(const LoraTag& tag, const std::multimap<std::string, fs::path>& files, const std::string& folder) {
  std::vector<fs::path> fitting;
  for (const auto& [name, file] : files) {
    if (name == tag.name || file.filename() == tag.name) fitting.push_back(file);
  }
  const std::string where = "<lora:" + tag.name + ":...>: ";
  if (fitting.empty()) {
    std::vector<std::string> names;
    for (const auto& [name, file] : files) names.push_back(name);
    throw Error(ErrorKind::kFile,
                where + "no such file in " + folder +
                    (names.empty() ? ", which holds none" : "; nearest: " + listed(nearest_names(tag.name, names))));
  }
  if (fitting.size() > 1)
    throw Error(ErrorKind::kFile, where + "both " + fitting[0].string() + " and " + fitting[1].string(),
                "name it with its extension, or rename one of them");
  return fitting.front();
}

// ---- matching -----------------------------------------------------------------------------------------------------

// kohya's files for Stable Diffusion XL name the U-Net's modules as LDM does.
std::map<std::string, std::string> ldm_names(const Checkpoint& c, const std::map<std::string, Shape>& weights) {
  const FilePart unet{"unet", "model.diffusion_model.", Naming::kLdm};
  const SourcePtr view = as_diffusers(tensor_source({}, ""), unet, c.unet_config);
  std::map<std::string, std::string> names;
  for (const auto& [name, shape] : weights) {
    const std::string theirs = view->stored_name(name);
    if (theirs.starts_with(unet.prefix)) names[theirs.substr(unet.prefix.size())] = name;
  }
  return names;
}

std::vector<LoraTarget> targets_of(const Checkpoint& c) {
  std::vector<LoraTarget> targets;
  for (const Part part : parts_of(c)) {
    const bool is_text = part == Part::kTextEncoder || part == Part::kTextEncoder2;
    if (part == Part::kVae || (is_text && c.multilingual)) continue;
    LoraTarget target{name_of(part), {}, {}};
    const SourcePtr weights = open_weights(c, part, /*prefer_half=*/false);
    for (const std::string& name : weights->names()) target.weights[name] = weights->info(name)->shape;
    if (part == Part::kUNet) target.also = ldm_names(c, target.weights);
    targets.push_back(std::move(target));
  }
  return targets;
}

// The last few that were opened, the newest at the end.
std::shared_ptr<const Lora> open(const fs::path& file, bool partial, const Checkpoint& c) {
  constexpr std::size_t kKept = 4;
  OpenAdapters& adapters = *c.adapters;
  const std::lock_guard lock(adapters.opening);
  auto& kept = adapters.loras;
  const auto known = std::find_if(kept.begin(), kept.end(),
                                  [&](const auto& one) { return one.second == partial && one.first->file() == file; });
  std::shared_ptr<const Lora> lora;
  if (known != kept.end()) {
    lora = known->first;
    kept.erase(known);
  } else {
    if (adapters.targets.empty()) adapters.targets = targets_of(c);
    lora = Lora::open(file, adapters.targets, c.family->name, partial);
  }
  kept.emplace_back(lora, partial);
  if (kept.size() > kKept) kept.erase(kept.begin());
  return lora;
}

}  // namespace

std::vector<LoraChoice> loras_of(const Request& r) {
  std::vector<LoraChoice> choices;
  if (r.lora) {
    for (const std::string& text : *r.lora) choices.push_back(parse_lora(text));
  }
  const std::vector<LoraTag> tags = tags_of(r);
  if (!tags.empty() && !r.lora_dir)
    throw Error(ErrorKind::kUsage,
                "<lora:" + tags.front().name + ":...> in the prompt: --lora-dir says where the file is");
  if (!tags.empty()) {
    const auto files = loras_in(*r.lora_dir);
    for (const LoraTag& tag : tags) choices.push_back({file_of(tag, files, *r.lora_dir), tag.unet, tag.text_encoder});
  }
  std::erase_if(choices, [](const LoraChoice& choice) { return choice.unet == 0 && choice.text_encoder == 0; });
  return choices;
}

std::vector<OpenLora> open_loras(const Request& r, const Checkpoint& c) {
  std::vector<OpenLora> loras;
  if (c.pixel) return loras;
  for (LoraChoice& choice : loras_of(r)) {
    auto lora = open(choice.file, r.lora_partial.value_or(false), c);
    loras.push_back({std::move(choice), std::move(lora)});
  }
  return loras;
}

std::vector<AppliedLora> applied_to(Part part, const std::vector<OpenLora>& loras) {
  std::vector<AppliedLora> applied;
  for (const OpenLora& one : loras) {
    const double strength = part == Part::kUNet ? one.choice.unet : one.choice.text_encoder;
    if (part != Part::kVae && strength != 0 && one.lora->changes(name_of(part)))
      applied.push_back({one.lora, strength});
  }
  return applied;
}

}  // namespace easel
