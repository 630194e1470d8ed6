#include "weights/identify.h"

#include <fnmatch.h>

#include <algorithm>

namespace easel {

namespace {

constexpr const char* kGlobalStep = "global_step";

// The names of one file, asked for many patterns.
class Names {
 public:
  explicit Names(const WeightSource& file) : file_(file), names_(file.names()) {}

  const std::vector<std::string>& all() const { return names_; }

  // The first name that matches, or null.
  const std::string* first(const std::string& pattern) const {
    const auto matches = [&](const std::string& name) { return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0; };
    const auto found = std::find_if(names_.begin(), names_.end(), matches);
    return found == names_.end() ? nullptr : &*found;
  }
  bool has(const std::string& pattern) const {
    return pattern.find('*') == std::string::npos ? file_.info(pattern).has_value() : first(pattern) != nullptr;
  }
  Shape shape(const std::string& name) const {
    const auto info = file_.info(name);
    return info ? info->shape : Shape();
  }
  // Of the dimension `index` of the first tensor that matches; 0 where there is none.
  int64_t size(const std::string& pattern, std::size_t index) const {
    const std::string* name = first(pattern);
    const Shape sizes = name ? shape(*name) : Shape();
    return index < sizes.size() ? sizes[index] : 0;
  }

 private:
  const WeightSource& file_;
  std::vector<std::string> names_;
};

std::string family_of_context(int64_t width) {
  for (const FamilyNames& row : family_names()) {
    if (row.context == width) return row.family;
  }
  return "";
}

std::string title_of(const std::string& family) {
  for (const FamilyNames& row : family_names()) {
    if (row.family == family) return row.title;
  }
  return "";
}

const KindRow* kind_row_of(const Names& names) {
  for (const KindRow& row : kind_table()) {
    if (std::all_of(row.all_of.begin(), row.all_of.end(), [&](const auto& clue) { return names.has(clue); }))
      return &row;
  }
  return nullptr;
}

// ---- adapters and embeddings ---------------------------------------------------------------------------------------

// kohya's scripts and the ModelSpec standard write it.
std::string family_of_metadata(const Metadata& metadata) {
  static const std::vector<std::pair<std::string, std::string>> kWords = {{"sdxl_refiner", "sdxl-refiner"},
                                                                          {"xl-v1-refiner", "sdxl-refiner"},
                                                                          {"sdxl", "sdxl"},
                                                                          {"stable-diffusion-xl", "sdxl"},
                                                                          {"sd_v2", "sd2"},
                                                                          {"stable-diffusion-v2", "sd2"},
                                                                          {"sd_v1", "sd1"},
                                                                          {"stable-diffusion-v1", "sd1"}};
  for (const char* key : {"ss_base_model_version", "modelspec.architecture"}) {
    const auto said = metadata.find(key);
    if (said == metadata.end()) continue;
    for (const auto& [word, family] : kWords) {
      if (said->second.find(word) != std::string::npos) return family;
    }
  }
  return "";
}

std::string family_of_adapter(const Names& names, const Metadata& metadata) {
  if (names.has("lora_te2_*") || names.has("text_encoder_2.*")) return "sdxl";
  for (const char* down : {"*attn2*to_k*lora*down.weight", "*attn2*to_k*lora_A.*weight"}) {
    const std::string family = family_of_context(names.size(down, 1));
    if (!family.empty()) return family;
  }
  return family_of_metadata(metadata);
}

std::string family_of_embedding(const Names& names) {
  if (names.has("clip_g")) return "sdxl";
  const Shape shape = names.all().empty() ? Shape() : names.shape(names.all().front());
  const int64_t width = shape.empty() ? 0 : shape.back();
  return width == 768 || width == 1024 ? family_of_context(width) : "";
}

// diffusers stores {"<token>": [vectors, width]} and nothing else.
bool is_lone_embedding(const Names& names) {
  if (names.all().size() != 1) return false;
  const Shape shape = names.shape(names.all().front());
  return (shape.size() == 1 || shape.size() == 2) && !family_of_context(shape.back()).empty();
}

// ---- models --------------------------------------------------------------------------------------------------------

// The first row of each part.
std::vector<const PartRow*> part_rows_of(const Names& names) {
  std::vector<const PartRow*> found;
  for (const PartRow& row : part_table()) {
    const auto is_same = [&](const PartRow* other) { return other->part.name == row.part.name; };
    const bool known = std::any_of(found.begin(), found.end(), is_same);
    if (!known && names.has(row.part.prefix + row.clue)) found.push_back(&row);
  }
  return found;
}

FileKind kind_of_parts(const FileIdentity& id) {
  if (!id.part("unet")) {
    if (id.parts.empty()) return FileKind::kOther;
    if (id.part("vae")) return id.parts.size() == 1 ? FileKind::kVae : FileKind::kOther;
    return FileKind::kTextEncoder;
  }
  return id.parts.size() == 1 ? FileKind::kUNet : FileKind::kCheckpoint;
}

std::string family_of_unet(const Names& names, const std::string& prefix) {
  return family_of_context(names.size(prefix + "*attn2.to_k.weight", 1));
}

// The width of bare text encoders tells the model, not the family: CLIP ViT-L is in SD1.x and SDXL.
void identify_text_encoder(FileIdentity& id, const Names& names) {
  FilePart& part = id.parts.front();
  const char* token =
      part.naming == Naming::kOpenClip ? "token_embedding.weight" : "*embeddings.token_embedding.weight";
  const int64_t width = names.size(part.prefix + token, 1);
  if (width == 1280 && part.prefix.empty()) part.name = "text_encoder_2";
  id.title = width == 768    ? "text encoder (CLIP ViT-L, of Stable Diffusion 1.x and XL)"
             : width == 1024 ? "text encoder (OpenCLIP ViT-H, of Stable Diffusion 2.x)"
             : width == 1280 ? "text encoder (OpenCLIP ViT-bigG, of Stable Diffusion XL)"
                             : "text encoder";
}

// AutoencoderTiny, or TAESD by its author, whose decoder begins with a clamp that has no tensors.
void identify_tiny_vae(FileIdentity& id, const Names& names) {
  const bool by_author = id.parts.front().naming == Naming::kTaesd, is_encoder = by_author && names.has("0.weight");
  const int64_t channels = is_encoder ? 0 : names.size(by_author ? "1.weight" : "decoder.layers.0.weight", 1);
  id.title = "small VAE (TAESD)";
  if (channels != 4 && channels != 0) id.title += " of " + std::to_string(channels) + " latent channels";
  if (by_author) id.title += is_encoder ? ", encoder alone" : ", decoder alone";
}

void identify_vae(FileIdentity& id, const Names& names) {
  const FilePart& part = id.parts.front();
  if (part.naming == Naming::kTaesd || (part.prefix.empty() && names.has("decoder.layers.0.weight")))
    return identify_tiny_vae(id, names);
  const int64_t channels = names.size(part.prefix + "decoder.conv_in.weight", 1);
  id.title = "VAE";
  if (channels == 4 || channels == 0) return;
  id.title = "VAE of " + std::to_string(channels) + " latent channels";
}

// ---- prediction type -----------------------------------------------------------------------------------------------

// 875000 is the step at which SD2-base was published; diffusers knows it by that, too.
bool is_sd2_base_step(const WeightSource& file, const Metadata& metadata) {
  const auto said = metadata.find(kGlobalStep);
  if (said != metadata.end()) return said->second == "875000";
  const auto info = file.info(kGlobalStep);
  const bool is_number = info && c10::multiply_integers(info->shape) == 1 &&
                         (info->dtype == at::kLong || info->dtype == at::kInt || info->dtype == at::kFloat);
  return is_number && file.load(kGlobalStep).to(at::kDouble).item<double>() == 875000;
}

struct Prediction {
  std::string type, reason;
  bool assumed = false;
};

std::optional<Prediction> stated_prediction(const WeightSource& file, const Metadata& metadata) {
  if (const auto configs = embedded_configs(file); configs && configs->contains("scheduler")) {
    const json scheduler = configs->at("scheduler");
    const json type = scheduler.contains("prediction_type") ? scheduler.at("prediction_type") : json("epsilon");
    return Prediction{type == "v_prediction" ? "v"
                      : type == "sample"     ? "x0"
                                             : "eps",
                      "the scheduler's config in the file"};
  }
  if (file.info("v_pred")) return Prediction{"v", "the key v_pred"};
  const auto spec = metadata.find("modelspec.prediction_type");
  if (spec != metadata.end() && (spec->second == "v" || spec->second == "epsilon"))
    return Prediction{spec->second == "v" ? "v" : "eps", "modelspec.prediction_type in the file's metadata"};
  return std::nullopt;
}

Prediction prediction_of(const FileIdentity& id, const WeightSource& file, const Metadata& metadata) {
  if (const auto stated = stated_prediction(file, metadata)) return *stated;
  if (id.family != "sd2")
    return {"eps", "that of " + (id.family.empty() ? "most models" : title_of(id.family)), id.family.empty()};
  if (id.in_channels != 4) return {"eps", "that of Stable Diffusion 2.x inpainting"};
  if (is_sd2_base_step(file, metadata)) return {"eps", "global_step 875000, the 512 pixel model's"};
  return {"v",
          "assumed: Stable Diffusion 2.x at 512 pixels (eps) and at 768 (v) have the same tensors, and nothing in "
          "the file tells them apart",
          true};
}

// SSD-1B and Segmind-Vega are SDXL without middle attention and with fewer layers; 0 for a whole U-Net.
int64_t pruned_depth(const Names& names, const FilePart& unet) {
  const bool ldm = unet.naming == Naming::kLdm;
  if (names.has(unet.prefix + (ldm ? "middle_block.1.*" : "mid_block.attentions.*"))) return 0;
  const std::string layers = unet.prefix + (ldm ? "input_blocks.7.1." : "down_blocks.2.attentions.0.");
  int64_t depth = 0;
  while (names.has(layers + "transformer_blocks." + std::to_string(depth) + ".norm1.weight")) ++depth;
  return depth;
}

// Empty where there is no published config for this network.
std::string spec_of(const FileIdentity& id, const Names& names, int64_t out_channels) {
  // A latent of another width is no picture beside the noise: the file's own configs say the rest.
  const int64_t in_channels = id.in_channels == out_channels ? 4 : id.in_channels;
  const int64_t depth = id.family == "sdxl" ? pruned_depth(names, *id.part("unet")) : 0;
  for (const SpecRow& row : spec_table()) {
    if (row.family == id.family && row.in_channels == in_channels && row.pruned_depth == depth &&
        (*row.prediction == '\0' || row.prediction == id.prediction))
      return row.spec;
  }
  return "";
}

void identify_unet(FileIdentity& id, const Names& names, const WeightSource& file, const Metadata& metadata) {
  const FilePart& unet = *id.part("unet");
  const char* conv_in = unet.naming == Naming::kLdm ? "input_blocks.0.0.weight" : "conv_in.weight";
  const char* conv_out = unet.naming == Naming::kLdm ? "out.2.weight" : "conv_out.weight";
  id.in_channels = names.size(unet.prefix + conv_in, 1);
  const int64_t out_channels = names.size(unet.prefix + conv_out, 0);
  if (id.family.empty()) id.family = family_of_unet(names, unet.prefix);
  if (id.family.empty()) id.family = family_of_metadata(metadata);
  const Prediction prediction = prediction_of(id, file, metadata);
  id.prediction = prediction.type, id.prediction_reason = prediction.reason, id.prediction_assumed = prediction.assumed;
  id.zero_snr = file.info("ztsnr").has_value();
  id.spec = spec_of(id, names, out_channels);
  const bool text = names.has("*attn2.to_k.weight");
  id.title = id.family.empty() ? (text ? "U-Net of no known family" : "pixel-space DDPM U-Net") : title_of(id.family);
  if (id.spec == "ssd-1b" || id.spec == "segmind-vega") id.title += ", pruned (" + id.spec + ")";
  if (id.in_channels == 9) id.title += ", inpainting";
  if (id.in_channels == 8 && out_channels != 8) id.title += ", instruct-pix2pix";
  if (id.kind == FileKind::kUNet && !id.family.empty()) id.title += ", U-Net only";
}

// diffusers' names, or LDM's, mostly behind `control_model.`.
void identify_controlnet(FileIdentity& id, const Names& names) {
  id.family = family_of_unet(names, "");
  const std::string hint = "input_hint_block.0.weight";
  const std::string* ldm = names.first("*" + hint);
  const std::string prefix = ldm ? ldm->substr(0, ldm->size() - hint.size()) : "";
  id.parts = {{"controlnet", prefix, ldm ? Naming::kLdm : Naming::kDiffusers}};
}

void identify_model(FileIdentity& id, const Names& names, const WeightSource& file) {
  for (const PartRow* row : part_rows_of(names)) {
    id.parts.push_back(row->part);
    if (id.family.empty()) id.family = row->family;
  }
  id.kind = kind_of_parts(id);
  if (id.part("unet")) return identify_unet(id, names, file, file.metadata());
  if (id.kind == FileKind::kVae) return identify_vae(id, names);
  if (id.kind == FileKind::kTextEncoder) return identify_text_encoder(id, names);
  id.title = id.parts.empty() ? "no kind of file that Easel knows" : "a checkpoint without its U-Net";
}

}  // namespace

const FilePart* FileIdentity::part(std::string_view name) const {
  const auto found = std::find_if(parts.begin(), parts.end(), [&](const FilePart& part) { return part.name == name; });
  return found == parts.end() ? nullptr : &*found;
}

FileIdentity identify(const WeightSource& file) {
  FileIdentity id;
  const Names names(file);
  if (const KindRow* row = kind_row_of(names)) {
    id.kind = row->kind, id.title = row->title;
    if (id.kind == FileKind::kLora) id.family = family_of_adapter(names, file.metadata());
    if (id.kind == FileKind::kControlNet) identify_controlnet(id, names);
    if (id.kind == FileKind::kTextualInversion) id.family = family_of_embedding(names);
  } else if (is_lone_embedding(names)) {
    id.kind = FileKind::kTextualInversion, id.title = "textual inversion", id.family = family_of_embedding(names);
  } else {
    identify_model(id, names, file);
  }
  return id;
}

std::optional<json> embedded_configs(const WeightSource& file) {
  const Metadata metadata = file.metadata();
  const auto text = metadata.find(kConfigsKey);
  if (text == metadata.end()) return std::nullopt;
  json configs = json::parse(text->second, nullptr, /*allow_exceptions=*/false);
  const auto is_object = [](const json& config) { return config.is_object(); };
  if (!configs.is_object() || !std::all_of(configs.begin(), configs.end(), is_object))
    throw Error(ErrorKind::kFile,
                file.describe() + ": metadata " + kConfigsKey + ": expected an object of configs (JSON)",
                "get the file again, or convert the folder again");
  return configs;
}

}  // namespace easel
