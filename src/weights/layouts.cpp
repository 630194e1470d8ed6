// The tensors of a single file under the names of a diffusers folder, and back.
#include <algorithm>
#include <array>

#include "weights/dtypes.h"
#include "weights/fault_list.h"
#include "weights/key_map.h"
#include "weights/recast.h"

namespace easel {

namespace {

using Change = Recipe::Change;
using Recipes = std::map<std::string, Recipe>;

constexpr std::array kProjections = {"q_proj", "k_proj", "v_proj"};
constexpr const char* kTextModel = "text_model.";

Shape shape_of(const WeightSource& source, const std::string& name) {
  const auto info = source.info(name);
  return info ? info->shape : Shape();
}

// The number in "BEGIN.12.rest" plus 1, largest of all names.
int64_t count_layers(const WeightSource& source, const std::string& begin) {
  int64_t count = 0;
  for (const std::string& name : source.names()) {
    if (!name.starts_with(begin)) continue;
    const std::string number = name.substr(begin.size(), name.find('.', begin.size()) - begin.size());
    if (number.empty() || number.size() > 4 || number.find_first_not_of("0123456789") != std::string::npos) continue;
    count = std::max<int64_t>(count, std::stoll(number) + 1);
  }
  return count;
}

KeyMap key_map_of(const FilePart& part, const json& config, int64_t layers) {
  if (part.naming == Naming::kOpenClip) return KeyMap::open_clip(layers);
  TORCH_CHECK(part.name == "unet" || part.name == "vae" || part.name == "controlnet",
              "LDM has no names of its own for ", part.name);
  if (part.name == "controlnet") return KeyMap::controlnet(config);
  return part.name == "unet" ? KeyMap::unet(config) : KeyMap::vae(config);
}

bool is_vae_attention(const FilePart& part, const std::string& ours) {
  return part.name == "vae" && ours.find(".attentions.") != std::string::npos && ours.ends_with(".weight");
}

// "text_model.encoder.layers.3.self_attn.", "weight" of "transformer.resblocks.3.attn.in_proj_weight".
struct Fused {
  std::string attention, leaf;
};
std::optional<Fused> fused_of(const std::string& theirs) {
  constexpr std::string_view kBegin = "transformer.resblocks.", kMiddle = ".attn.in_proj_";
  const std::size_t middle = theirs.find(kMiddle);
  if (!theirs.starts_with(kBegin) || middle == std::string::npos) return std::nullopt;
  const std::string layer = theirs.substr(kBegin.size(), middle - kBegin.size());
  const std::string leaf = theirs.substr(middle + kMiddle.size());
  if (leaf != "weight" && leaf != "bias") return std::nullopt;
  return Fused{"text_model.encoder.layers." + layer + ".self_attn.", leaf};
}

// ---- to diffusers' names -------------------------------------------------------------------------------------------

void add_stored(Recipes& recipes, const FilePart& part, const KeyMap& names, const std::string& stored,
                const Shape& shape) {
  const std::string theirs = stored.substr(part.prefix.size());
  if (part.naming == Naming::kOpenClip) {
    const auto fused = fused_of(theirs);
    if (fused && !shape.empty() && shape[0] % 3 == 0) {
      for (int64_t i = 0; i < 3; ++i)
        recipes[fused->attention + kProjections[static_cast<std::size_t>(i)] + "." + fused->leaf] = {
            {stored}, Change::kThird, i};
      return;
    }
  }
  const auto ours = names.ours(theirs);
  if (!ours) {
    recipes[stored] = {{stored}};  // in the file's words: nobody asks for it
  } else if (*ours == "text_projection.weight" && shape.size() == 2) {
    recipes[*ours] = {{stored}, Change::kTranspose};
  } else if (is_vae_attention(part, *ours) && shape.size() == 4 && shape[2] == 1 && shape[3] == 1) {
    recipes[*ours] = {{stored}, Change::kMatrix};
  } else {
    recipes[*ours] = {{stored}};
  }
}

// The stored name of one of our names, there or not.
std::string stored_name_of(const FilePart& part, const KeyMap& names, const std::string& ours) {
  for (const char* projection : kProjections) {
    const std::size_t at = ours.find(std::string(".self_attn.") + projection + ".");
    if (part.naming != Naming::kOpenClip || at == std::string::npos) continue;
    const std::string layer = ours.substr(0, at) + ".self_attn.out_proj.weight";
    const auto out = names.theirs(layer);  // "transformer.resblocks.3.attn.out_proj.weight"
    if (!out) return part.prefix + ours;
    return part.prefix + out->substr(0, out->rfind("out_proj")) + "in_proj_" + ours.substr(ours.rfind('.') + 1);
  }
  return part.prefix + names.theirs(ours).value_or(ours);
}

// TAESD's author numbers the decoder's layers from the clamp on, which diffusers' DecoderTiny has outside of them. The
// two files are told apart by their first convolution.
SourcePtr as_tiny_vae(SourcePtr file) {
  const bool is_encoder = file->info("0.weight").has_value();
  const std::string begin = is_encoder ? "encoder.layers." : "decoder.layers.";
  Recipes recipes;
  std::map<std::string, std::string> stored_names;
  for (const std::string& name : file->names()) {
    const std::size_t dot = std::min(name.find('.'), name.size());
    const bool is_number = dot > 0 && dot <= 4 && name.find_first_not_of("0123456789") == dot;
    const int64_t number = is_number ? std::stoll(name.substr(0, dot)) - (is_encoder ? 0 : 1) : -1;
    const std::string ours = number < 0 ? name : begin + std::to_string(number) + name.substr(dot);
    recipes[ours] = {{name}};
    stored_names[ours] = name;
  }
  return recast(std::move(file), std::move(recipes), [=](const std::string& ours) {
    const auto found = stored_names.find(ours);
    return found == stored_names.end() ? ours : found->second;
  });
}

}  // namespace

SourcePtr as_diffusers(SourcePtr file, const FilePart& part, const json& config) {
  if (part.naming == Naming::kTaesd) return as_tiny_vae(std::move(file));
  Recipes recipes;
  if (part.naming == Naming::kDiffusers) {
    for (const std::string& name : file->names()) {
      if (name.starts_with(part.prefix)) recipes[name.substr(part.prefix.size())] = {{name}};
    }
    return recast(std::move(file), std::move(recipes), [=](const std::string& ours) { return part.prefix + ours; });
  }
  const KeyMap names = key_map_of(part, config, count_layers(*file, part.prefix + "transformer.resblocks."));
  for (const std::string& name : file->names()) {
    if (name.starts_with(part.prefix)) add_stored(recipes, part, names, name, shape_of(*file, name));
  }
  return recast(std::move(file), std::move(recipes),
                [=](const std::string& ours) { return stored_name_of(part, names, ours); });
}

// ---- to a single file's names --------------------------------------------------------------------------------------

namespace {

// Files are saved with and without `text_model.`.
std::string published_name(const FilePart& part, const std::string& name) {
  const bool text = part.name.starts_with("text_encoder");
  if (!text || name.starts_with(kTextModel)) return name;
  return name.starts_with("embeddings.") || name.starts_with("encoder.") || name.starts_with("final_layer_norm.")
             ? kTextModel + name
             : name;
}

// The names of the three projections stacked in OpenCLIP's tensor, when `ours` is the first of them.
std::optional<std::array<std::string, 3>> projections_of(const std::string& ours) {
  const std::size_t at = ours.find(".self_attn.q_proj.");
  if (at == std::string::npos) return std::nullopt;
  std::array<std::string, 3> names;
  for (std::size_t i = 0; i < names.size(); ++i) {
    names[i] = ours;
    names[i].replace(at + std::string(".self_attn.").size(), std::string("q_proj").size(), kProjections[i]);
  }
  return names;
}

bool is_other_projection(const std::string& ours) {
  return ours.find(".self_attn.k_proj.") != std::string::npos || ours.find(".self_attn.v_proj.") != std::string::npos;
}

// Adds the stored tensor that is made of `name` (and, of OpenCLIP, its fellows); a sentence when there is none.
std::optional<std::string> add_ours(Recipes& recipes, const WeightSource& source, const FilePart& part,
                                    const KeyMap* names, const std::string& name) {
  const auto put = [&](const std::string& theirs, Recipe recipe) -> std::optional<std::string> {
    const bool added = recipes.emplace(part.prefix + theirs, std::move(recipe)).second;
    return added ? std::nullopt : std::optional("tensor " + shown_name(name) + " is there under two names");
  };
  const std::string ours = published_name(part, name);
  const Shape shape = shape_of(source, name);
  if (!names) return put(ours, {{name}});
  if (part.naming == Naming::kOpenClip && is_other_projection(ours)) return std::nullopt;  // comes with its q_proj
  if (const auto three = projections_of(name); part.naming == Naming::kOpenClip && three) {
    for (const std::string& other : *three) {
      if (!source.info(other) || shape_of(source, other) != shape ||
          source.info(other)->dtype != source.info(name)->dtype)
        return "tensor " + shown_name(other) + " does not go with " + shown_name(name) + ": they are stored as one";
    }
    const std::string stored = stored_name_of(part, *names, ours).substr(part.prefix.size());
    return put(stored, {{three->begin(), three->end()}, Change::kStack});
  }
  const auto theirs = names->theirs(ours);
  if (!theirs && is_known_extra(ours)) return std::nullopt;  // position_ids: OpenCLIP counts by itself
  if (!theirs) return "tensor " + shown_name(name) + " has no name in a single file";
  if (ours == "text_projection.weight" && shape.size() == 2) return put(*theirs, {{name}, Change::kTranspose});
  if (is_vae_attention(part, ours) && shape.size() == 2) return put(*theirs, {{name}, Change::kConvolution1x1});
  return put(*theirs, {{name}});
}

}  // namespace

SourcePtr as_single_file(SourcePtr folder_part, const FilePart& part, const json& config) {
  std::optional<KeyMap> names;
  if (part.naming != Naming::kDiffusers) {
    const int64_t layers = std::max(count_layers(*folder_part, "text_model.encoder.layers."),
                                    count_layers(*folder_part, "encoder.layers."));
    names = key_map_of(part, config, layers);
  }
  Recipes recipes;
  FaultList faults(folder_part->describe() + ": ", "such tensors");
  for (const std::string& name : folder_part->names()) {
    const auto fault = add_ours(recipes, *folder_part, part, names ? &*names : nullptr, name);
    if (fault) faults.add(*fault);
  }
  faults.raise_if_any("a diffusers folder (--to diffusers) can hold every tensor");
  return recast(std::move(folder_part), std::move(recipes), [](const std::string& name) { return name; });
}

}  // namespace easel
