// Opening a checkpoint: which family, which configs, and whether its parts fit together.
#include <algorithm>
#include <mutex>

#include "pipeline/configs.h"
#include "pipeline/families.h"
#include "pipeline/pixel_model.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

// A model's own defaults. Only what is about sampling: a prompt or a device is the user's.
Request read_own_defaults(const fs::path& file) {
  static const std::vector<std::string> kAllowed = {"steps",      "cfg_scale", "cfg_rescale", "cfg_start",
                                                    "cfg_end",    "sampler",   "scheduler",   "eta",
                                                    "prediction", "clip_skip", "width",       "height"};
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

std::string pipeline_class(const fs::path& index) {
  const json content = read_json(index);
  const auto name = content.find("_class_name");
  if (name == content.end() || !name->is_string())
    throw Error(ErrorKind::kFile, index.string() + ": _class_name is missing, so the pipeline is not known");
  if (!is_pipeline_class(name->get<std::string>()))
    throw Error(ErrorKind::kFile, index.string() + ": _class_name is " + shown(*name) + ", which is not supported",
                "supported: " + supported_families());
  return *name;
}

Checkpoint open_pixel_folder(const fs::path& folder) {
  Checkpoint c;
  c.path = folder;
  c.family = &family_row("ddpm");
  c.pixel = std::make_shared<PixelModel>(open_pixel_model(folder));
  c.scheduler = c.pixel->scheduler;
  return c;
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
                "-m takes the folder that holds unet/, vae/ and text_encoder/, or a single file");
  if (is_pixel_pipeline(pipeline_class(index))) return open_pixel_folder(folder);
  Checkpoint c;
  c.path = folder;
  read_configs(c, configs_of_folder(folder));
  if (c.text_encoder) c.text_encoder->tokenizer_folder = folder / "tokenizer";
  if (c.text_encoder_2) c.text_encoder_2->tokenizer_folder = folder / "tokenizer_2";
  if (c.multilingual) c.multilingual->tokenizer_folder = folder / "tokenizer";
  if (fs::exists(folder / "easel.json", error)) c.own_defaults = read_own_defaults(folder / "easel.json");
  note_what_is_skipped(folder);
  return c;
}

// ---- single files -------------------------------------------------------------------------------------------------

const char* use_of(FileKind kind) {
  switch (kind) {
    case FileKind::kVae:
      return "--vae draws with it, beside the -m of a whole model";
    case FileKind::kUNet:
    case FileKind::kTextEncoder:
      return "-m takes a file that holds the text encoder, the U-Net and the VAE, or a diffusers folder";
    default:
      return "";
  }
}

void check_kind(const Checkpoint& c) {
  const FileIdentity& id = c.identity;
  const std::string where = c.path.string() + ": ";
  const std::string hint = use_of(id.kind);
  if (id.kind != FileKind::kCheckpoint)
    throw Error(ErrorKind::kFile, where + "this is no whole model: " + id.title,
                hint.empty() ? "supported: " + supported_families() : hint);
  if (id.spec.empty())
    throw Error(ErrorKind::kFile, where + "of no known family: " + id.title, "supported: " + supported_families());
}

// What tensors of a file say of its scheduler over what its family's config says.
FindConfig with_markers(FindConfig find, const FileIdentity& id) {
  return [find = std::move(find), id](const std::string& name) {
    auto config = find(name);
    if (config && name == "scheduler") {
      if (id.prediction == "v") config->content["prediction_type"] = "v_prediction";
      if (id.zero_snr) {  // Lin et al. 2023, §3.2; "trailing" is what makes the first step start at pure noise, §3.3
        config->content["rescale_betas_zero_snr"] = true;
        config->content["timestep_spacing"] = "trailing";
      }
    }
    return config;
  };
}

// Single files hold no tokenizer: the published CLIP vocabulary, padded as the family does.
void set_tokenizer(std::optional<TextPart>& part, const fs::path& tokenizer_config) {
  if (!part) return;
  part->tokenizer_folder = models_folder() / kBundledModel / "tokenizer";
  part->tokenizer_config = tokenizer_config;
}

Checkpoint open_single_file(const fs::path& file) {
  Checkpoint c;
  c.path = file;
  c.single_file = open_weights_file(file);
  c.identity = identify(*c.single_file);
  check_kind(c);
  const fs::path spec = models_folder() / "specs" / c.identity.spec;
  read_configs(c, configs_in_file(*c.single_file, with_markers(configs_of_spec(spec), c.identity)));
  c.unet.in_channels = c.identity.in_channels;
  set_tokenizer(c.text_encoder, spec / "tokenizer_config.json");
  set_tokenizer(c.text_encoder_2, spec / "tokenizer_2_config.json");
  return c;
}

std::mutex& reading_tokenizers() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

std::shared_ptr<const ClipTokenizer> TextPart::tokenizer() const {
  const std::lock_guard lock(reading_tokenizers());
  if (!read_tokenizer)
    read_tokenizer = std::make_shared<const ClipTokenizer>(
        tokenizer_config.empty() ? ClipTokenizer::from_folder(tokenizer_folder)
                                 : ClipTokenizer::from_folder(tokenizer_folder, tokenizer_config));
  return read_tokenizer;
}

std::shared_ptr<const XlmRobertaTokenizer> MultilingualPart::tokenizer() const {
  const std::lock_guard lock(reading_tokenizers());
  if (!read_tokenizer)
    read_tokenizer = std::make_shared<const XlmRobertaTokenizer>(XlmRobertaTokenizer::from_folder(tokenizer_folder));
  return read_tokenizer;
}

std::string Checkpoint::name() const {
  const fs::path clean = (path / "").parent_path();  // without a trailing slash
  return single_file ? clean.stem().string() : clean.filename().string();
}

Checkpoint open_checkpoint(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status))
    throw Error(ErrorKind::kFile, "no model at " + path.string(), "-m takes a diffusers folder or a single file");
  Checkpoint c = fs::is_directory(status) ? open_folder(path) : open_single_file(path);
  if (!c.pixel) check_fit(c);
  return c;
}

bool draws_without_prompt(const fs::path& path) {
  try {
    return is_pixel_pipeline(pipeline_class(path / "model_index.json"));
  } catch (const Error&) {  // told when the model is opened
    return false;
  }
}

void use_refiner(Checkpoint& c, const fs::path& path) {
  auto refiner = std::make_shared<Checkpoint>(open_checkpoint(path));
  Faults faults;
  const std::string where = path.string() + ": as a refiner of " + c.path.string() + ", ";
  if (!c.is_sdxl() || !refiner->is_sdxl()) {
    faults.add(where + "both must be Stable Diffusion XL; they are " + refiner->family->title + " and " +
               c.family->title);
  } else if (refiner->vae.latent_channels != c.vae.latent_channels || refiner->vae.factor() != c.vae.factor() ||
             refiner->vae.scaling_factor != c.vae.scaling_factor || refiner->vae.shift_factor != c.vae.shift_factor) {
    faults.add(where + "its VAE has another kind of latent, so it cannot go on where the model stops");
  }
  faults.raise_if_any(ErrorKind::kFile);
  c.refiner = std::move(refiner);
}

Checkpoint open_models(const Request& request) {
  Checkpoint c = open_checkpoint(find_model(request.model.value_or(kBundledModel)));
  if (c.pixel && (request.vae || request.refiner))
    throw Error(ErrorKind::kUsage, std::string(request.vae ? "--vae" : "--refiner") + " has no effect: " +
                                       c.path.string() + " is a " + c.family->title + ", which has no latents");
  if (request.refiner) use_refiner(c, find_model(*request.refiner));
  if (request.vae) use_vae(c, *request.vae);
  return c;
}

}  // namespace easel
