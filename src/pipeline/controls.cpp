#include "pipeline/controls.h"

#include <algorithm>
#include <mutex>
#include <set>

#include "pipeline/beginning.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

constexpr const char* kStem = "diffusion_pytorch_model";

// Of the control picture's embedding: its first convolution's, and those of every second one after it.
json hint_channels(const Control& control) {
  const bool ldm = control.part.naming == Naming::kLdm;
  json channels = json::array();
  for (int64_t i = 0; i < 16; ++i) {
    const std::string name = ldm      ? "input_hint_block." + std::to_string(4 * i)
                             : i == 0 ? "controlnet_cond_embedding.conv_in"
                                      : "controlnet_cond_embedding.blocks." + std::to_string(2 * i - 1);
    const auto weight = control.file->info(control.part.prefix + name + ".weight");
    if (!weight || weight->shape.empty()) break;
    channels.push_back(weight->shape.front());
  }
  return channels;
}

// The U-Net's config says the rest of a ControlNet that has none of its own (diffusers' ControlNetModel.from_unet).
json config_from_unet(const Control& control, const json& unet) {
  json config = unet;
  for (const char* other : {"time_cond_proj_dim", "sample_size", "out_channels", "up_block_types",
                            "center_input_sample", "reverse_transformer_layers_per_block"})
    config.erase(other);
  config["conditioning_embedding_out_channels"] = hint_channels(control);
  const bool ldm = control.part.naming == Naming::kLdm;
  const auto conv_in = control.file->info(control.part.prefix + (ldm ? "input_blocks.0.0.weight" : "conv_in.weight"));
  if (conv_in && conv_in->shape.size() == 4) config["in_channels"] = conv_in->shape[1];
  return config;
}

json config_of_folder(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  json config = read_json(file);
  const json type = config.value("_class_name", json("ControlNetModel"));
  if (type != "ControlNetModel")
    throw Error(ErrorKind::kFile, file.string() + ": _class_name is " + shown(type) + ", expected ControlNetModel");
  return config;
}

// Both files and folders have tensors to be known by.
FileIdentity identity_of(const fs::path& path, const WeightSource& weights) {
  FileIdentity id = identify(weights);
  if (id.kind == FileKind::kControlNet) return id;
  throw Error(ErrorKind::kFile, path.string() + ": this is no ControlNet: " + id.title,
              "--control-net takes a ControlNetModel's folder or a ControlNet's file");
}

const FamilyRow* family_named(const std::string& name) {
  for (const FamilyRow& row : family_table()) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

// Its residuals are added to the U-Net's skips, one by one.
void check_fit(const Control& control, const FileIdentity& id, const Checkpoint& c) {
  Faults faults;
  const std::string where = control.path.string() + ": ";
  const FamilyRow* family = family_named(id.family);
  const UNetSpec &own = control.spec.unet, &unet = c.unet;
  if (own.cross_attention_dim != unet.cross_attention_dim && family != nullptr && family->name != c.family->name)
    throw Error(ErrorKind::kFile, where + "a ControlNet for " + family->title + ", the model is " + c.family->title);
  const auto unequal = [&](const std::string& what, const std::string& a, const std::string& b) {
    if (a != b)
      faults.add(where + "a ControlNet for another kind of model: its " + what + " is " + a + ", the U-Net's " + b);
  };
  const auto channels = [](const UNetSpec& s) {
    json list = json::array();
    for (const UNetLevel& level : s.levels) list.push_back({level.channels, level.layers});
    return list.dump();
  };
  unequal("cross_attention_dim", std::to_string(own.cross_attention_dim), std::to_string(unet.cross_attention_dim));
  unequal("levels ([channels, layers])", channels(own), channels(unet));
  unequal("in_channels", std::to_string(own.in_channels), std::to_string(c.vae.latent_channels));
  unequal("addition_embed_type", own.text_time ? "text_time" : "null", unet.text_time ? "text_time" : "null");
  if (own.text_time && unet.text_time)
    unequal("projection_class_embeddings_input_dim", std::to_string(own.text_time->input_width),
            std::to_string(unet.text_time->input_width));
  if (control.spec.factor() != c.vae.factor())
    faults.add(where + "its control pictures are " + std::to_string(control.spec.factor()) +
               " times as wide as latents, the model's " + std::to_string(c.vae.factor()));
  if (control.spec.conditioning_channels != 3)
    faults.add(where + "conditioning_channels is " + std::to_string(control.spec.conditioning_channels) +
               ", expected 3: control pictures are RGB");
  if (own.time_cond_proj_dim > 0) faults.add(where + "a distilled ControlNet (time_cond_proj_dim) is not supported");
  faults.raise_if_any(ErrorKind::kFile);
}

// Fills in `values`.
void audit(Control& control) {
  const Weights w(open_weights(control, /*prefer_half=*/false), at::kMeta, at::kFloat);
  ControlNet(w, control.spec);
  try {
    w.finish("controlnet", is_known_extra);
  } catch (const Error& error) {
    std::vector<std::string> faults;
    for (const std::string& fault : error.faults()) faults.push_back(control.path.string() + ": " + fault);
    throw Error(error.kind(), faults, error.hint());
  }
  for (const auto& [name, shape] : w.binding().asked) control.values += c10::multiply_integers(shape);
}

ControlPtr open(const fs::path& path, const Checkpoint& c) {
  std::error_code error;
  if (!fs::exists(path, error))
    throw Error(ErrorKind::kFile, "no ControlNet at " + path.string(),
                "--control-net takes a diffusers folder or a weights file");
  auto control = std::make_shared<Control>();
  control->path = path;
  const bool is_folder = fs::is_directory(path, error);
  if (is_folder) control->config = config_of_folder(path);
  if (!is_folder) control->file = open_weights_file(path);
  const SourcePtr weights = is_folder ? open_part(path, kStem, /*prefer_half=*/false) : control->file;
  const FileIdentity id = identity_of(path, *weights);
  control->part = id.parts.front();
  std::string where = path.string();
  if (is_folder) {
    where = (path / "config.json").string();
  } else if (control->part.naming == Naming::kDiffusers && fs::exists(path.parent_path() / "config.json", error)) {
    control->config = config_of_folder(path.parent_path());
    where = (path.parent_path() / "config.json").string();
  } else {
    control->config = config_from_unet(*control, c.unet_config);
  }
  control->spec = ControlNetSpec::from_json(control->config, where);
  check_fit(*control, id, c);
  audit(*control);
  return control;
}

}  // namespace

SourcePtr open_weights(const Control& control, bool prefer_half) {
  return control.file ? as_diffusers(control.file, control.part, control.config)
                      : open_part(control.path, kStem, prefer_half);
}

std::vector<ControlPtr> open_controls(const Request& r, const Checkpoint& c) {
  std::vector<ControlPtr> controls;
  if (c.pixel || !r.control_net) return controls;
  OpenAdapters& adapters = *c.adapters;
  const std::lock_guard lock(adapters.opening);
  for (const std::string& path : *r.control_net) {
    ControlPtr& known = adapters.controls[path];
    if (!known) known = open(path, c);
    controls.push_back(known);
  }
  return controls;
}

// ---- requests -----------------------------------------------------------------------------------------------------

void fill_controls(Request& r, Faults& faults) {
  if (!r.control_net) return;
  const std::size_t nets = r.control_net->size(), pictures = r.control_image ? r.control_image->size() : 0;
  if (pictures != nets)
    faults.add(std::to_string(nets) + " --control-net and " + std::to_string(pictures) +
               " --control-image: each network has its picture, in the order of the flags");
  const auto fill = [&](std::optional<std::vector<double>>& list, const char* flag, double value) {
    if (!list) list.emplace();
    if (list->size() > nets)
      faults.add(std::to_string(list->size()) + " " + flag + " for " + std::to_string(nets) + " --control-net");
    list->resize(std::max(nets, list->size()), value);
  };
  fill(r.control_strength, "--control-strength", 1);
  fill(r.control_start, "--control-start", 0);
  fill(r.control_end, "--control-end", 1);
  for (std::size_t i = 0; i < nets; ++i) {
    const double start = (*r.control_start)[i], end = (*r.control_end)[i];
    if (start >= end) faults.add("--control-start " + plain(start) + " is not before --control-end " + plain(end));
  }
  if (r.inpaint_full_res.value_or(false))
    faults.add("--control-net does not go with --inpaint-full-res: control pictures show the whole picture");
  if (!r.canny.value_or(false)) return;
  if (!r.canny_low) r.canny_low = 100;
  if (!r.canny_high) r.canny_high = 200;
  if (*r.canny_low > *r.canny_high)
    faults.add("--canny-low " + std::to_string(*r.canny_low) + " is above --canny-high " +
               std::to_string(*r.canny_high));
}

// ---- pictures -----------------------------------------------------------------------------------------------------

void tell_of_control_sizes(const Request& r) {
  static std::mutex mutex;
  static std::set<std::string> told;
  constexpr std::size_t kMost = 1000;
  if (!r.control_net) return;
  for (const std::string& file : *r.control_image) {
    const auto [width, height] = picture_size(file);
    const std::lock_guard lock(mutex);
    if ((width == *r.width && height == *r.height) || told.size() >= kMost || !told.insert(file).second) continue;
    log::note(file + " is " + std::to_string(width) + "x" + std::to_string(height) + ": resized (--resize " +
              r.resize.value_or("fill") + ") to the picture's " + std::to_string(*r.width) + "x" +
              std::to_string(*r.height));
  }
}

std::vector<Image> read_control_pictures(const Request& r) {
  std::vector<Image> pictures;
  if (!r.control_net) return pictures;
  for (const std::string& file : *r.control_image) pictures.push_back(read_picture(file));
  return pictures;
}

Tensor control_pixels(const Image& picture, const Request& r, int width, int height) {
  const ResizeMode mode = r.resize ? resize_mode(*r.resize) : ResizeMode::kFill;
  const bool fits = picture.width == width && picture.height == height;
  Image shown = fits ? picture : resize(picture, width, height, mode);
  if (r.canny.value_or(false)) shown = canny(shown, static_cast<int>(*r.canny_low), static_cast<int>(*r.canny_high));
  return values_of(shown);
}

}  // namespace easel
