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

// "taesd_encoder.pth" of "taesd_decoder.pth"; empty where the name says nothing, or there is no such file.
fs::path encoder_beside(const fs::path& decoder) {
  constexpr std::string_view kDecoder = "decoder";
  std::string name = decoder.filename().string();
  const std::size_t at = name.rfind(kDecoder);
  if (at == std::string::npos) return {};
  name.replace(at, kDecoder.size(), "encoder");
  const fs::path encoder = decoder.parent_path() / name;
  std::error_code error;
  return fs::exists(encoder, error) ? encoder : fs::path();
}

// TAESD's author publishes decoder and encoder in two files, of which drawing needs the decoder.
void join_author_files(OtherVae& vae) {
  SourcePtr tensors = as_diffusers(vae.file, vae.part, {});
  if (!tensors->info("decoder.layers.0.weight"))
    throw Error(ErrorKind::kFile, vae.path.string() + ": this is TAESD's encoder alone",
                "--vae takes the decoder's file, and reads the encoder's beside it where a picture is begun with");
  const fs::path beside = encoder_beside(vae.path);
  if (!beside.empty()) {
    const SourcePtr file = open_weights_file(beside);
    const SourcePtr encoder = as_diffusers(file, {"vae", "", Naming::kTaesd}, {});
    if (!encoder->info("encoder.layers.0.weight"))
      throw Error(ErrorKind::kFile, beside.string() + ": expected TAESD's encoder, it is " + identify(*file).title,
                  "it was looked for beside " + vae.path.string());
    tensors = joined({tensors, encoder});
    log::verbose("the VAE's encoder: " + beside.string());
  }
  vae.file = std::move(tensors);
  vae.part = {"vae", "", Naming::kDiffusers};
}

// The config that the tensors of an AutoencoderTiny tell; nullopt for another VAE's.
std::optional<Config> config_of_tensors(const OtherVae& vae) {
  if (vae.part.naming == Naming::kLdm) return std::nullopt;
  auto config = tiny_vae_config(*as_diffusers(vae.file, vae.part, {}));
  if (!config) return std::nullopt;
  return Config{std::move(*config), vae.path.string()};
}

OtherVae open_file(const fs::path& path, Config& config) {
  OtherVae vae;
  vae.path = path;
  vae.file = open_weights_file(path);
  const FileIdentity id = identify(*vae.file);
  const FilePart* part = id.part("vae");
  if (part == nullptr) throw Error(ErrorKind::kFile, path.string() + ": there is no VAE in it: " + id.title);
  vae.part = *part;
  const bool by_author = part->naming == Naming::kTaesd;
  if (by_author) join_author_files(vae);
  auto own = by_author ? std::nullopt : config_of_file(vae);
  if (!own) own = config_of_tensors(vae);
  if (own) config = std::move(*own);
  return vae;
}

}  // namespace

void use_vae(Checkpoint& c, const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error))
    throw Error(ErrorKind::kFile, "no VAE at " + path.string(), "--vae takes a diffusers folder or a weights file");
  Config config = {c.vae_config, c.path.string()};  // of a file that says nothing
  OtherVae vae = fs::is_directory(path, error) ? open_folder(path, config) : open_file(path, config);
  const int64_t factor = c.vae.factor(), channels = c.vae.latent_channels;
  c.vae = VaeSpec::from_json(config.content, config.where);
  c.vae_config = std::move(config.content);
  if (c.vae.tiny && vae.file)
    c.vae.tiny->has_encoder = as_diffusers(vae.file, vae.part, {})->info("encoder.layers.0.weight").has_value();
  Faults faults;
  if (c.vae.factor() != factor)
    faults.add(path.string() + ": its pictures are " + std::to_string(c.vae.factor()) +
               " times as wide as latents, the model's own VAE's " + std::to_string(factor));
  // A U-Net of twice the latent's channels would pass for one that takes a picture beside the noise.
  if (c.vae.latent_channels != channels)
    faults.add(path.string() + ": its latents have " + std::to_string(c.vae.latent_channels) +
               " channels, the model's own VAE's " + std::to_string(channels));
  faults.raise_if_any(ErrorKind::kFile);
  log::verbose("VAE: " + path.string() + ", scaling factor " + plain(c.vae.scaling_factor));
  c.other_vae = std::move(vae);
  check_fit(c);
}

}  // namespace easel
