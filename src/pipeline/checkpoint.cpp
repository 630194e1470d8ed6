// Opening a checkpoint: which family, which configs, and whether its parts fit together.
#include <algorithm>
#include <fstream>

#include "pipeline/families.h"

namespace easel {

namespace fs = std::filesystem;

json read_json(const fs::path& file) {
  constexpr std::uintmax_t kLargest = 16 << 20;
  std::error_code error;
  const std::uintmax_t size = fs::file_size(file, error);
  if (error) throw Error(ErrorKind::kFile, file.string() + ": " + error.message());
  if (size > kLargest) throw Error(ErrorKind::kFile, file.string() + ": larger than any config file is");
  std::ifstream in(file, std::ios::binary);
  const json value = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) throw Error(ErrorKind::kFile, file.string() + ": not JSON");
  if (!value.is_object()) throw Error(ErrorKind::kFile, file.string() + ": expected a JSON object");
  return value;
}

namespace {

const FamilyRow& family_of_class(const std::string& name, const fs::path& where) {
  for (const FamilyRow& row : family_table()) {
    const auto& classes = row.pipeline_classes;
    if (std::find(classes.begin(), classes.end(), name) != classes.end()) return row;
  }
  throw Error(ErrorKind::kFile,
              where.string() + ": _class_name is " + json(name).dump() + ", a pipeline that is not supported",
              "supported: " + supported_families());
}

// A model's own defaults. Only what is about sampling: a prompt or a device is the user's.
Request read_own_defaults(const fs::path& file) {
  static const std::vector<std::string> kAllowed = {"steps",      "cfg_scale", "sampler", "eta",
                                                    "prediction", "clip_skip", "width",   "height"};
  Request defaults;
  Faults faults;
  const json content = read_json(file);
  for (const auto& [name, value] : content.items()) {
    if (std::find(kAllowed.begin(), kAllowed.end(), name) == kAllowed.end()) {
      faults.add(file.string() + ": unknown field " + json(name).dump());
    } else {
      set_from_json(defaults, *find_request_field(name), value, file.string() + ": " + name, faults);
    }
  }
  faults.raise_if_any(ErrorKind::kFile);
  return defaults;
}

// Inpainting and instruct-pix2pix networks take a picture beside the noise; without one they draw nonsense.
void refuse_picture_networks(const Checkpoint& c, Faults& faults) {
  const std::string where = c.path.string() + ": the U-Net takes " + std::to_string(c.unet.in_channels) + " channels, ";
  if (c.unet.in_channels == 9)
    faults.add(where + "an inpainting model, which needs a picture and a mask: not supported");
  if (c.unet.in_channels == 8) faults.add(where + "an instruct-pix2pix model, which needs a picture: not supported");
}

void check_fit(const Checkpoint& c) {
  Faults faults;
  const auto unequal = [&](const std::string& one, int64_t a, const std::string& other, int64_t b) {
    if (a != b)
      faults.add(c.path.string() + ": " + one + " is " + std::to_string(a) + ", " + other + " is " + std::to_string(b) +
                 ": these parts do not belong together");
  };
  refuse_picture_networks(c, faults);
  if (faults.empty())
    unequal("the U-Net's in_channels", c.unet.in_channels, "the VAE's latent_channels", c.vae.latent_channels);
  unequal("the text encoder's hidden_size", c.text_encoder.hidden_size, "the U-Net's cross_attention_dim",
          c.unet.cross_attention_dim);
  if (c.vae.in_channels != 3 || c.vae.out_channels != 3)
    faults.add(c.path.string() + ": the VAE makes " + std::to_string(c.vae.out_channels) +
               " channels, expected 3 (RGB)");
  if (c.unet.out_channels != c.unet.in_channels && c.unet.out_channels != 2 * c.unet.in_channels)
    faults.add(c.path.string() + ": the U-Net's out_channels is " + std::to_string(c.unet.out_channels) +
               ", expected in_channels, or twice that with learned variances");
  faults.raise_if_any(ErrorKind::kFile);
}

// Both forms of configs: a folder's unet/config.json and a spec's unet.json.
void read_parts(Checkpoint& c, const std::function<fs::path(const char* part)>& config_of, const fs::path& scheduler) {
  Faults faults;
  const auto collect = [&](auto&& read) {
    try {
      read();
    } catch (const Error& error) {
      for (const std::string& fault : error.faults()) faults.add(fault);
    }
  };
  collect([&] {
    const fs::path file = config_of("text_encoder");
    c.text_encoder = ClipTextSpec::from_json(read_json(file), file.string());
  });
  collect([&] {
    const fs::path file = config_of("unet");
    c.unet = UNetSpec::from_json(c.unet_config = read_json(file), file.string());
  });
  collect([&] {
    const fs::path file = config_of("vae");
    c.vae = VaeSpec::from_json(c.vae_config = read_json(file), file.string());
  });
  collect([&] { c.scheduler = SchedulerConfig::from_json(read_json(scheduler), scheduler.string()); });
  faults.raise_if_any(ErrorKind::kFile);
}

void note_what_is_skipped(const fs::path& folder) {
  std::string skipped;
  std::error_code error;
  for (const char* name : {"safety_checker", "feature_extractor", "image_encoder"}) {
    if (fs::exists(folder / name, error)) skipped += (skipped.empty() ? "" : ", ") + std::string(name);
  }
  if (!skipped.empty()) log::verbose(folder.string() + ": " + skipped + " not used (no checker runs)");
}

Checkpoint open_folder(const fs::path& folder) {
  const fs::path index = folder / "model_index.json";
  std::error_code error;
  if (!fs::exists(index, error))
    throw Error(ErrorKind::kFile, folder.string() + ": no model_index.json, so this is not a diffusers folder",
                "-m takes the folder that holds unet/, vae/ and text_encoder/, or a single .safetensors file");
  Checkpoint c;
  c.path = folder;
  const json content = read_json(index);
  const auto name = content.find("_class_name");
  if (name == content.end() || !name->is_string())
    throw Error(ErrorKind::kFile, index.string() + ": _class_name is missing, so the pipeline is not known");
  c.family = &family_of_class(name->get<std::string>(), index);
  read_parts(
      c, [&](const char* part) { return folder / part / "config.json"; }, folder / "scheduler/scheduler_config.json");
  c.tokenizer_folder = folder / "tokenizer";
  if (fs::exists(folder / "easel.json", error)) c.own_defaults = read_own_defaults(folder / "easel.json");
  note_what_is_skipped(folder);
  return c;
}

// ---- single files -------------------------------------------------------------------------------------------------

constexpr const char* kLdmConvIn = "model.diffusion_model.input_blocks.0.0.weight";
constexpr const char* kLdmContext = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
constexpr const char* kLdmClip = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight";

// By the names and shapes that tell the families apart; diffusers' infer_diffusers_model_type looks at the same ones.
const FamilyRow& family_of_names(const WeightSource& source, const fs::path& file) {
  const auto refuse = [&](const std::string& what) -> Error {
    return Error(ErrorKind::kFile, file.string() + ": " + what, "supported: " + supported_families());
  };
  if (source.info("conditioner.embedders.1.model.ln_final.weight") ||
      source.info("conditioner.embedders.0.model.ln_final.weight"))
    throw refuse("a Stable Diffusion XL checkpoint, which is not supported");
  if (source.info("cond_stage_model.model.ln_final.weight"))
    throw refuse("a Stable Diffusion 2.x checkpoint, which is not supported");
  if (!source.info(kLdmConvIn))
    throw refuse("no Stable Diffusion checkpoint (there is no " + std::string(kLdmConvIn) + ")");
  if (!source.info(kLdmClip))
    throw refuse("no text encoder of Stable Diffusion 1.x (there is no " + std::string(kLdmClip) + ")");
  return family_table().front();
}

Checkpoint open_single_file(const fs::path& file) {
  Checkpoint c;
  c.path = file;
  c.single_file = open_safetensors(file);
  c.family = &family_of_names(*c.single_file, file);
  const fs::path specs = models_folder() / "specs" / c.family->spec_folder;
  read_parts(
      c, [&](const char* part) { return specs / (std::string(part) + ".json"); }, specs / "scheduler.json");
  const auto stored = c.single_file->info(kLdmConvIn);
  if (stored->shape.size() == 4) c.unet.in_channels = stored->shape[1];  // 9: inpainting, refused by name
  const auto context = c.single_file->info(kLdmContext);
  if (context && context->shape.size() == 2 && context->shape[1] != c.unet.cross_attention_dim)
    throw Error(ErrorKind::kFile, file.string() + ": " + kLdmContext + " has " + to_string(context->shape) + ", " +
                                      c.family->title + " has a text width of " +
                                      std::to_string(c.unet.cross_attention_dim));
  c.tokenizer_folder = models_folder() / kBundledModel / "tokenizer";  // the published CLIP vocabulary
  return c;
}

}  // namespace

std::string Checkpoint::name() const {
  const fs::path clean = (path / "").parent_path();  // without a trailing slash
  return single_file ? clean.stem().string() : clean.filename().string();
}

Checkpoint open_checkpoint(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status))
    throw Error(ErrorKind::kFile, "no model at " + path.string(),
                "-m takes a diffusers folder or a single .safetensors file");
  Checkpoint c = fs::is_directory(status) ? open_folder(path) : open_single_file(path);
  check_fit(c);
  return c;
}

}  // namespace easel
