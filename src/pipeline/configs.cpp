#include "pipeline/configs.h"

#include <fstream>

#include "pipeline/families.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

// Python writes Infinity into JSON, which has no such number (lambda_min_clipped in files of DPM-Solver): the largest
// double stands for it.
std::string with_finite_numbers(const std::string& text) {
  constexpr std::string_view kWord = "Infinity", kLargest = "1.7976931348623157e308";
  std::string out;
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (!in_string && text.compare(at, kWord.size(), kWord) == 0) {
      out += kLargest;
      at += kWord.size() - 1;
      continue;
    }
    if (in_string && text[at] == '\\' && at + 1 < text.size()) out += text[at++];
    if (text[at] == '"') in_string = !in_string;
    out += text[at];
  }
  return out;
}

}  // namespace

json read_json(const fs::path& file) {
  constexpr std::uintmax_t kLargest = 16 << 20;
  std::error_code error;
  const std::uintmax_t size = fs::file_size(file, error);
  if (error) throw Error(ErrorKind::kFile, file.string() + ": " + error.message());
  if (size > kLargest) throw Error(ErrorKind::kFile, file.string() + ": larger than any config file is");
  std::ifstream in(file, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  const json value = json::parse(with_finite_numbers(text), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) throw Error(ErrorKind::kFile, file.string() + ": not JSON");
  if (!value.is_object()) throw Error(ErrorKind::kFile, file.string() + ": expected a JSON object");
  return value;
}

FindConfig configs_of_folder(const fs::path& folder) {
  return [folder](const std::string& name) -> std::optional<Config> {
    const fs::path file = name == "model_index" ? folder / "model_index.json"
                          : name == "scheduler" ? folder / "scheduler/scheduler_config.json"
                                                : folder / name / "config.json";
    std::error_code error;
    // A second text encoder is there or not; what every family has is missed by read_json().
    if (name.starts_with("text_encoder") && !fs::exists(file.parent_path(), error)) return std::nullopt;
    return Config{read_json(file), file.string()};
  };
}

FindConfig configs_of_spec(const fs::path& folder) {
  return [folder](const std::string& name) -> std::optional<Config> {
    const fs::path file = folder / (name + ".json");
    std::error_code error;
    if (name.starts_with("text_encoder") && !fs::exists(file, error)) return std::nullopt;
    return Config{read_json(file), file.string()};
  };
}

FindConfig configs_in_file(const WeightSource& file, FindConfig otherwise) {
  const auto embedded = embedded_configs(file);
  if (!embedded) return otherwise;
  return [embedded = *embedded, where = file.describe(),
          otherwise = std::move(otherwise)](const std::string& name) -> std::optional<Config> {
    const auto found = embedded.find(name);
    if (found != embedded.end()) return Config{*found, where + ": " + name};
    return name.starts_with("text_encoder") ? std::nullopt : otherwise(name);
  };
}

namespace {

class Reader {
 public:
  Reader(Checkpoint& checkpoint, const FindConfig& find) : c_(checkpoint), find_(find) {}

  void read() {
    first_text_encoder();
    text_encoder("text_encoder_2", c_.text_encoder_2);
    collect([&] {
      const Config config = needed("unet");
      c_.unet = UNetSpec::from_json(c_.unet_config = config.content, config.where);
    });
    collect([&] {
      const Config config = needed("vae");
      c_.vae = VaeSpec::from_json(c_.vae_config = config.content, config.where);
    });
    collect([&] {
      const Config config = needed("scheduler");
      c_.scheduler = SchedulerConfig::from_json(config.content, config.where);
    });
    if (faults_.empty()) check_text_encoders();
    if (faults_.empty()) collect([&] { model_index(); });
    faults_.raise_if_any(ErrorKind::kFile);
  }

 private:
  template <class Read>
  void collect(Read&& read) {
    try {
      read();
    } catch (const Error& error) {
      for (const std::string& fault : error.faults()) faults_.add(fault);
    }
  }

  Config needed(const char* name) const {
    auto config = find_(name);
    TORCH_CHECK(config, "no config of ", name);
    return std::move(*config);
  }

  // XLM-R or CLIP, by the class that the config names.
  void first_text_encoder() {
    collect([&] {
      const auto config = find_("text_encoder");
      if (!config) return;
      const std::string classes = config->content.value("architectures", json::array()).dump();
      if (classes.find("RobertaSeriesModelWithTransformation") != std::string::npos)
        c_.multilingual = MultilingualPart{XlmRobertaSpec::from_json(config->content, config->where), {}};
      else
        c_.text_encoder = TextPart{ClipTextSpec::from_json(config->content, config->where), {}, {}, {}};
    });
  }

  void text_encoder(const char* name, std::optional<TextPart>& part) {
    collect([&] {
      const auto config = find_(name);
      if (config) part = TextPart{ClipTextSpec::from_json(config->content, config->where), {}, {}, {}};
    });
  }

  void check_text_encoders() {
    const std::string where = c_.path.string() + ": ";
    if (c_.multilingual) {
      if (c_.is_sdxl() || c_.text_encoder_2)
        faults_.add(where + "an XLM-R text encoder goes with U-Nets of Stable Diffusion 1.x alone");
      return;
    }
    if (!c_.text_encoder && !c_.text_encoder_2) {
      faults_.add(where + "there is no text_encoder");
    } else if (!c_.is_sdxl() && !c_.text_encoder) {
      faults_.add(where + "there is no text_encoder, and a text_encoder_2 goes with U-Nets of Stable Diffusion XL");
    } else if (!c_.is_sdxl() && c_.text_encoder_2) {
      faults_.add(where + "there is a text_encoder_2, but the U-Net is not one of Stable Diffusion XL");
    } else if (c_.is_sdxl() && (!c_.text_encoder_2 || c_.text_encoder_2->spec.projection_dim == 0)) {
      faults_.add(where + "this U-Net takes a pooled text: a text_encoder_2 that is a CLIPTextModelWithProjection");
    }
  }

  void model_index() {
    c_.family = &family_of_parts(c_);
    const Config index = needed("model_index");
    const auto flag = [&](const char* name, bool otherwise) {
      const auto found = index.content.find(name);
      if (found == index.content.end() || found->is_null()) return otherwise;
      if (found->is_boolean()) return found->get<bool>();
      throw Error(ErrorKind::kFile, index.where + ": " + name + " is " + shown(*found) + ": expected true or false");
    };
    c_.force_zeros_for_empty_prompt = c_.is_sdxl() && flag("force_zeros_for_empty_prompt", true);
    c_.requires_aesthetics_score = c_.is_sdxl() && flag("requires_aesthetics_score", false);
  }

  Checkpoint& c_;
  const FindConfig& find_;
  Faults faults_;
};

int64_t text_width(const Checkpoint& c) {
  int64_t width = c.multilingual ? c.multilingual->spec.project_dim : 0;
  for (const auto* part : {&c.text_encoder, &c.text_encoder_2}) {
    if (*part) width += (*part)->spec.hidden_size;
  }
  return width;
}

// Two sizes and a corner, or a size, a corner and a score.
void check_time_ids(const Checkpoint& c, Faults& faults) {
  const int64_t pooled = c.text_encoder_2->spec.projection_dim;
  const int64_t count = c.unet.time_id_count(pooled), expected = c.requires_aesthetics_score ? 5 : 6;
  if (count == expected) return;
  faults.add(c.path.string() + ": projection_class_embeddings_input_dim is " +
             std::to_string(c.unet.text_time->input_width) + ", expected " +
             std::to_string(pooled + expected * c.unet.text_time->time_embed_dim) + ": a pooled text of " +
             std::to_string(pooled) + " and " + std::to_string(expected) + " numbers of " +
             std::to_string(c.unet.text_time->time_embed_dim) + " (requires_aesthetics_score is " +
             (c.requires_aesthetics_score ? "true" : "false") + ")");
}

}  // namespace

void read_configs(Checkpoint& checkpoint, const FindConfig& find) { Reader(checkpoint, find).read(); }

void check_fit(const Checkpoint& c) {
  Faults faults;
  const auto unequal = [&](const std::string& one, int64_t a, const std::string& other, int64_t b) {
    if (a != b)
      faults.add(c.path.string() + ": " + one + " is " + std::to_string(a) + ", " + other + " is " + std::to_string(b) +
                 ": these parts do not belong together");
  };
  const int64_t latent = c.vae.latent_channels, in = c.unet.in_channels, out = c.unet.out_channels;
  const bool with_picture = in == 2 * latent || in == 2 * latent + 1;  // instruct-pix2pix, inpainting
  if (!with_picture) unequal("the U-Net's in_channels", in, "the VAE's latent_channels", latent);
  unequal(c.text_encoder && c.text_encoder_2 ? "the text encoders' hidden_size" : "the text encoder's hidden_size",
          text_width(c), "the U-Net's cross_attention_dim", c.unet.cross_attention_dim);
  if (c.vae.in_channels != 3 || c.vae.out_channels != 3)
    faults.add(c.path.string() + ": the VAE makes " + std::to_string(c.vae.out_channels) +
               " channels, expected 3 (RGB)");
  if (out != latent && out != 2 * latent)
    faults.add(c.path.string() + ": the U-Net's out_channels is " + std::to_string(out) +
               ", expected the latent's channels, or twice that with learned variances");
  if (c.is_sdxl()) check_time_ids(c, faults);
  faults.raise_if_any(ErrorKind::kFile);
}

}  // namespace easel
