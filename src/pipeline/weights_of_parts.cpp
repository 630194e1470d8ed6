// The weights of each part, folder or single file, under the names the networks ask for.
#include "pipeline/stages.h"

namespace easel {

namespace {

struct PartRow {
  const char* name;    // folder, and the part's word in the key map
  const char* stem;    // of its files in a folder
  const char* prefix;  // of published names that ours lack
};

const PartRow& row_of(Part part) {
  static const PartRow rows[] = {{"text_encoder", "model", "text_model."},
                                 {"unet", "diffusion_pytorch_model", ""},
                                 {"vae", "diffusion_pytorch_model", ""}};
  return rows[static_cast<int>(part)];
}

// The names a part's networks ask for, found by building them on shapes alone.
std::vector<std::string> asked_names(const Checkpoint& c, Part part) {
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  switch (part) {
    case Part::kTextEncoder:
      ClipTextEncoder(shapes, c.text_encoder);
      break;
    case Part::kUNet:
      UNet(shapes, c.unet);
      break;
    case Part::kVae:
      VaeDecoder(shapes, c.vae);
      VaeEncoder(shapes, c.vae);
      break;
  }
  std::vector<std::string> names;
  for (const auto& [name, shape] : shapes.binding().asked) names.push_back(name);
  return names;
}

// (ours, stored)
std::vector<std::pair<std::string, std::string>> names_in_single_file(const Checkpoint& c, Part part) {
  const PartRow& row = row_of(part);
  const json& config = part == Part::kVae ? c.vae_config : c.unet_config;
  std::vector<std::pair<std::string, std::string>> names;
  for (const std::string& ours : asked_names(c, part))
    names.emplace_back(ours, ldm_key(row.name, row.prefix + ours, config));
  return names;
}

}  // namespace

const char* name_of(Part part) { return row_of(part).name; }

std::vector<std::string> stored_names(const Checkpoint& c, Part part) {
  std::vector<std::string> names;
  for (const auto& [ours, stored] : names_in_single_file(c, part)) names.push_back(stored);
  return names;
}

SourcePtr open_weights(const Checkpoint& c, Part part, bool prefer_half) {
  if (c.single_file) return renamed(c.single_file, names_in_single_file(c, part));
  const PartRow& row = row_of(part);
  const SourcePtr source = open_part(c.path / row.name, row.stem, prefer_half);
  return *row.prefix == '\0' ? source : without_prefix(source, row.prefix);
}

}  // namespace easel
