// The weights of each part, folder or single file, under the names the networks ask for.
#include "pipeline/pixel_model.h"
#include "pipeline/stages.h"

namespace easel {

namespace {

struct PartRow {
  const char* name;    // folder, and the part's word in messages
  const char* stem;    // of its files in a folder
  const char* prefix;  // of published names that ours lack
};

const PartRow& row_of(Part part) {
  static const PartRow rows[] = {{"text_encoder", "model", "text_model."},
                                 {"text_encoder_2", "model", "text_model."},
                                 {"unet", "diffusion_pytorch_model", ""},
                                 {"vae", "diffusion_pytorch_model", ""}};
  return rows[static_cast<int>(part)];
}

SourcePtr open_in_file(const Checkpoint& c, Part part) {
  const PartRow& row = row_of(part);
  const FilePart* stored = c.identity.part(row.name);
  if (stored == nullptr)
    throw Error(ErrorKind::kFile, c.path.string() + ": there is no " + row.name + " in it",
                part == Part::kVae ? "--vae FILE takes the VAE from elsewhere" : "");
  return as_diffusers(c.single_file, *stored, part == Part::kVae ? c.vae_config : c.unet_config);
}

SourcePtr open_other_vae(const Checkpoint& c, bool prefer_half) {
  const OtherVae& vae = *c.other_vae;
  if (!vae.file) return open_part(vae.folder, row_of(Part::kVae).stem, prefer_half);
  return as_diffusers(vae.file, vae.part, c.vae_config);
}

}  // namespace

const char* name_of(Part part) { return row_of(part).name; }

std::vector<Part> parts_of(const Checkpoint& c) {
  if (c.pixel) return {Part::kUNet};
  std::vector<Part> parts;
  if (c.text_encoder || c.multilingual) parts.push_back(Part::kTextEncoder);
  if (c.text_encoder_2) parts.push_back(Part::kTextEncoder2);
  parts.insert(parts.end(), {Part::kUNet, Part::kVae});
  return parts;
}

SourcePtr open_weights(const Checkpoint& c, Part part, bool prefer_half) {
  if (part == Part::kVae && c.other_vae) return open_other_vae(c, prefer_half);
  if (c.pixel) return open_weights(*c.pixel, prefer_half);
  const PartRow& row = row_of(part);
  const SourcePtr source = c.single_file ? open_in_file(c, part) : open_part(c.path / row.name, row.stem, prefer_half);
  return *row.prefix == '\0' ? source : without_prefix(source, row.prefix);
}

}  // namespace easel
