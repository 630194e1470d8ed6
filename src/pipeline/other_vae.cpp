// --vae: another VAE than the checkpoint's own.
#include "pipeline/configs.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

// A part's folder, or the checkpoint's folder around it.
OtherVae open_folder(const fs::path& path, Config& config) {
  OtherVae vae;
  vae.path = path;
  std::error_code error;
  vae.folder = fs::exists(path / "model_index.json", error) ? path / "vae" : path;
  const fs::path file = vae.folder / "config.json";
  config = {read_json(file), file.string()};
  return vae;
}

// The file's own config, else the one beside it (a part's folder), else none.
std::optional<Config> config_of_file(const OtherVae& vae) {
  if (const auto embedded = embedded_configs(*vae.file); embedded && embedded->contains("vae"))
    return Config{embedded->at("vae"), vae.path.string() + ": vae"};
  const fs::path beside = vae.path.parent_path() / "config.json";
  std::error_code error;
  if (vae.part.naming == Naming::kDiffusers && vae.part.prefix.empty() && fs::exists(beside, error))
    return Config{read_json(beside), beside.string()};
  return std::nullopt;
}

OtherVae open_file(const fs::path& path, Config& config) {
  OtherVae vae;
  vae.path = path;
  vae.file = open_weights_file(path);
  const FileIdentity id = identify(*vae.file);
  const FilePart* part = id.part("vae");
  if (part == nullptr) throw Error(ErrorKind::kFile, path.string() + ": there is no VAE in it: " + id.title);
  vae.part = *part;
  if (auto own = config_of_file(vae)) config = std::move(*own);
  return vae;
}

}  // namespace

void use_vae(Checkpoint& c, const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error))
    throw Error(ErrorKind::kFile, "no VAE at " + path.string(), "--vae takes a diffusers folder or a weights file");
  Config config = {c.vae_config, c.path.string()};  // of a file that says nothing
  OtherVae vae = fs::is_directory(path, error) ? open_folder(path, config) : open_file(path, config);
  const int64_t factor = c.vae.factor();
  c.vae = VaeSpec::from_json(config.content, config.where);
  c.vae_config = std::move(config.content);
  if (c.vae.factor() != factor)
    throw Error(ErrorKind::kFile, path.string() + ": its pictures are " + std::to_string(c.vae.factor()) +
                                      " times as wide as latents, the model's own VAE's " + std::to_string(factor));
  log::verbose("VAE: " + path.string() + ", scaling factor " + plain(c.vae.scaling_factor));
  c.other_vae = std::move(vae);
  check_fit(c);
}

}  // namespace easel
