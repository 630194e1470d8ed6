#include "cli/model_files.h"

#include <algorithm>
#include <array>

#include "easel/controlnet.h"

namespace easel::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::array kParts = {"text_encoder", "text_encoder_2", "unet", "vae"};

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// ---- folders
// ---------------------------------------------------------------------------------------------------------

std::string stem_of(const std::string& part) {
  return part.starts_with("text_encoder") ? "model" : "diffusion_pytorch_model";
}

// special_tokens_map.json, where a folder has it, overrides the padding token.
json read_tokenizer_config(const fs::path& folder) {
  json config = json::object();
  if (is_there(folder / "tokenizer_config.json")) config = read_json(folder / "tokenizer_config.json");
  if (!is_there(folder / "special_tokens_map.json")) return config;
  const json map = read_json(folder / "special_tokens_map.json");
  if (const auto pad = map.find("pad_token"); pad != map.end())
    config["pad_token"] = pad->is_object() && pad->contains("content") ? pad->at("content") : *pad;
  return config;
}

void read_folder_configs(ModelFiles& model) {
  const fs::path& folder = model.path;
  const auto add = [&](const std::string& name, const fs::path& file) {
    if (is_there(folder / file)) model.configs[name] = read_json(folder / file);
  };
  add("model_index", "model_index.json");
  add("easel", "easel.json");
  add("scheduler", "scheduler/scheduler_config.json");
  for (const std::string name : kParts) add(name, fs::path(name) / "config.json");
  for (const std::string name : {"tokenizer", "tokenizer_2"}) {
    if (is_there(folder / name)) model.configs[name] = read_tokenizer_config(folder / name);
  }
}

const json* find(const std::map<std::string, json>& configs, const std::string& name) {
  const auto found = configs.find(name);
  return found == configs.end() ? nullptr : &found->second;
}

std::string text_field(const json* config, const char* name) {
  return config && config->contains(name) && config->at(name).is_string() ? config->at(name).get<std::string>() : "";
}

// Which encoders there are tells the families apart; SD2's, OpenCLIP's, from SD1's by what it is or how it is padded.
std::string family_of_folder(const ModelFiles& model) {
  if (model.part("text_encoder_2")) return model.part("text_encoder") ? "sdxl" : "sdxl-refiner";
  const json* text = find(model.configs, "text_encoder");
  if (!model.part("text_encoder") || !text) return "";
  const bool wide = text->contains("hidden_size") && text->at("hidden_size") == 1024;
  const bool padded = text_field(find(model.configs, "tokenizer"), "pad_token") == "!";
  return text_field(text, "hidden_act") == "gelu" && (wide || padded) ? "sd2" : "sd1";
}

std::string prediction_of(const json& scheduler) {
  const std::string type = text_field(&scheduler, "prediction_type");
  return type == "v_prediction" ? "v" : type == "sample" ? "x0" : "eps";
}

std::string family_title(const std::string& family) {
  for (const FamilyRow& row : family_table()) {
    if (row.name == family) return row.title;
  }
  return "";
}

// The U-Net's identity, and what only the folder says.
FileIdentity identity_of_folder(const ModelFiles& model) {
  FileIdentity id;
  id.family = family_of_folder(model);
  if (const ModelPart* unet = model.part("unet")) {
    const std::string family = id.family;
    id = identify(*unet->tensors);
    if (!family.empty()) id.family = family;
  }
  id.kind = FileKind::kCheckpoint;
  id.parts.clear();
  for (const ModelPart& part : model.parts) id.parts.push_back(part.stored);
  const std::string title = family_title(id.family);
  if (!title.empty()) id.title = title + (id.in_channels == 9 ? ", inpainting" : "");
  if (const json* scheduler = find(model.configs, "scheduler")) {
    id.prediction = prediction_of(*scheduler), id.prediction_reason = "the scheduler's config";
    id.prediction_assumed = false;
    id.zero_snr = scheduler->value("rescale_betas_zero_snr", false);
  }
  return id;
}

void open_folder(ModelFiles& model) {
  read_folder_configs(model);
  for (const std::string name : kParts) {
    if (!is_there(model.path / name)) continue;
    const json* config = find(model.configs, name);
    model.parts.push_back({name,
                           {name, "", Naming::kDiffusers},
                           config ? *config : json(),
                           open_part(model.path / name, stem_of(name), /*prefer_half=*/false)});
  }
  model.identity = identity_of_folder(model);
}

// unet/, vae/, text_encoder/ alone, or a pixel-space model, whose U-Net lies in the root.
void open_part_folder(ModelFiles& model) {
  const bool text = is_there(model.path / "model.safetensors") || is_there(model.path / "pytorch_model.bin");
  const SourcePtr tensors = open_part(model.path, text ? "model" : "diffusion_pytorch_model", /*prefer_half=*/false);
  model.identity = identify(*tensors);
  const json config = is_there(model.path / "config.json") ? read_json(model.path / "config.json") : json();
  for (const FilePart& part : model.identity.parts) {
    model.parts.push_back({part.name, part, config, tensors});
    model.configs[part.name] = config;
  }
}

// ---- files
// -----------------------------------------------------------------------------------------------------------

// The configs of parts that tell no family: CLIP ViT-L is in SD1.x and SDXL, and their VAEs differ in a factor alone.
std::string spec_of_lone_part(const ModelFiles& model, const FilePart& part) {
  if (part.name == "text_encoder_2") return "sdxl";
  if (part.name != "text_encoder") return "sd15";
  const bool open_clip_h = model.identity.title.find("ViT-H") != std::string::npos;
  return open_clip_h ? "sd2" : "sd15";
}

void read_published_configs(ModelFiles& model, const std::string& spec) {
  const fs::path folder = models_folder() / "specs" / spec;
  const auto add = [&](const std::string& name, const std::string& file) {
    if (is_there(folder / file)) model.configs[name] = read_json(folder / file);
  };
  for (const std::string name : {"model_index", "scheduler", "text_encoder", "text_encoder_2", "unet", "vae"})
    add(name, name + ".json");
  for (const std::string name : {"tokenizer", "tokenizer_2"}) add(name, name + "_config.json");
}

// What a file's markers say beyond its family's published scheduler.
void mark_scheduler(ModelFiles& model) {
  const FileIdentity& id = model.identity;
  const auto scheduler = model.configs.find("scheduler");
  if (scheduler == model.configs.end()) return;
  if (prediction_of(scheduler->second) != id.prediction)
    scheduler->second["prediction_type"] = id.prediction == "v" ? "v_prediction" : "epsilon";
  if (id.zero_snr) scheduler->second["rescale_betas_zero_snr"] = true;
}

// A small VAE's config follows from its tensors; of its encoder alone there is none.
void read_tiny_vae_config(ModelFiles& model) {
  const FilePart* part = model.identity.kind == FileKind::kVae ? model.identity.part("vae") : nullptr;
  if (part == nullptr || part->naming == Naming::kLdm) return;
  const auto config = tiny_vae_config(*as_diffusers(model.file, *part, {}));
  if (config) model.configs["vae"] = *config;
  if (!config && part->naming == Naming::kTaesd) model.configs.erase("vae");
}

void read_file_configs(ModelFiles& model) {
  if (const auto embedded = embedded_configs(*model.file)) {
    for (const auto& [name, config] : embedded->items()) model.configs[name] = config;
    return;
  }
  const FileIdentity& id = model.identity;
  if (!id.spec.empty()) {
    read_published_configs(model, id.spec);
    mark_scheduler(model);
  } else if (!id.parts.empty() && !id.part("unet")) {
    read_published_configs(model, spec_of_lone_part(model, id.parts.front()));
    read_tiny_vae_config(model);
  }
}

// A published SD2 folder lacks the text encoder's last layer, which nothing reads.
SourcePtr without_unused_layer(SourcePtr tensors, const FilePart& part, const json& config) {
  if (part.naming != Naming::kOpenClip || !config.contains("num_hidden_layers")) return tensors;
  const std::string unused = "text_model.encoder.layers." + config.at("num_hidden_layers").dump() + ".";
  return filtered(std::move(tensors), [=](const std::string& name) { return !name.starts_with(unused); });
}

void open_file(ModelFiles& model, const std::string& prediction) {
  model.file = open_weights_file(model.path);
  FileIdentity& id = model.identity;
  id = identify(*model.file);
  if (!prediction.empty() && !id.prediction.empty()) {
    id.prediction = prediction, id.prediction_reason = "--prediction", id.prediction_assumed = false;
    if (id.family == "sd2" && id.in_channels == 4) id.spec = prediction == "v" ? "sd2" : "sd2-base";
  }
  read_file_configs(model);
  for (const FilePart& part : id.parts) {
    const json* config = find(model.configs, part.name);
    ModelPart& added = model.parts.emplace_back(part.name, part, config ? *config : json(), nullptr);
    if (part.naming == Naming::kLdm && !config) continue;  // LDM's block numbers need the config
    added.tensors = without_unused_layer(as_diffusers(model.file, part, added.config), part, added.config);
  }
}

}  // namespace

const ModelPart* ModelFiles::part(const std::string& name) const {
  const auto found = std::find_if(parts.begin(), parts.end(), [&](const ModelPart& part) { return part.name == name; });
  return found == parts.end() ? nullptr : &*found;
}

ModelFiles open_model_files(const fs::path& path, const std::string& prediction) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) throw Error(ErrorKind::kFile, "there is no " + path.string());
  ModelFiles model;
  model.path = path;
  if (!fs::is_directory(status)) {
    open_file(model, prediction);
  } else if (is_there(path / "model_index.json") && !is_there(path / "config.json")) {
    open_folder(model);
  } else {
    open_part_folder(model);
  }
  return model;
}

// ---- checks
// ----------------------------------------------------------------------------------------------------------

namespace {

void build(const ModelPart& part, const Weights& w) {
  const std::string where = part.name + "'s config";
  if (part.name == "unet") {
    if (text_field(&part.config, "_class_name") == "UNet2DModel") {
      UNet2D(w, UNet2DSpec::from_json(part.config, where));
    } else {
      UNet(w, UNetSpec::from_json(part.config, where));
    }
  } else if (part.name == "vae") {
    const VaeSpec spec = VaeSpec::from_json(part.config, where);
    VaeDecoder(w, spec);
    if (part.stored.naming != Naming::kTaesd) VaeEncoder(w, spec);
  } else if (part.name == "controlnet") {
    ControlNet(w, ControlNetSpec::from_json(part.config, where));
  } else {
    ClipTextEncoder(w, ClipTextSpec::from_json(part.config, where));
  }
}

}  // namespace

PartCheck check_part(const ModelPart& part) {
  PartCheck check;
  if (part.config.is_null() || !part.tensors) {
    check.unsupported = "there is no config";
    return check;
  }
  try {
    // Only names and shapes are read on the meta device.
    const bool text = part.name.starts_with("text_encoder");
    const SourcePtr tensors = text ? without_prefix(part.tensors, "text_model.") : part.tensors;
    const Weights w(tensors, at::kMeta, at::kFloat);
    build(part, w);
    const Binding& found = w.binding();
    check.missing = found.missing, check.misfit = found.misfit;
    for (const std::string& name : found.stored) {
      if (!found.asked.contains(name) && !is_known_extra(name)) check.unexpected.push_back(tensors->stored_name(name));
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kFile) throw;
    check.unsupported = listed(error.faults());
  }
  return check;
}

Leftovers leftovers(const ModelFiles& model) {
  Leftovers left;
  if (model.is_folder()) return left;
  for (const std::string& name : model.file->names()) {
    const bool projection = model.part("text_encoder_2") && name.ends_with(".text_projection");
    const bool known = is_known_extra(name) && !projection;
    const bool in_part = std::any_of(model.parts.begin(), model.parts.end(),
                                     [&](const ModelPart& part) { return name.starts_with(part.stored.prefix); });
    if (known) left.known.push_back(name);
    if (!known && !in_part) left.unexpected.push_back(name);
  }
  return left;
}

}  // namespace easel::cli
