// The way of a picture: prompt → hidden states; seed → noise → latent by the sampler; latent → pixels.
#include <c10/core/InferenceMode.h>

#include "pipeline/stages.h"

namespace easel {

struct Pipeline::Stages {
  Checkpoint checkpoint;
  ClipTokenizer tokenizer;
  StageSet own;                     // in the precision asked for
  std::optional<StageSet> float32;  // for what is not finite in half precision

  Stages(Checkpoint c, Precision precision);
  StageSet& in_float32();
  Tensor encode(StageSet& nets, const std::string& prompt, int64_t clip_skip, Timings& time);
  Tensor context(StageSet& nets, const Request& r, Timings& time);
  Tensor sample(StageSet& nets, const Request& r, const OnProgress& on_progress, Timings& time);
  Tensor decode(StageSet& nets, const Tensor& latent, Timings& time);
};

namespace {

bool is_finite(const Tensor& x) { return at::isfinite(x.sum()).item<bool>(); }

Error not_finite(const std::string& stage) {
  return Error(ErrorKind::kPicture, stage + " gave values that are not finite, in f32 too: no picture",
               "the weights may be damaged; compare their hash with the publisher's");
}

void warn_of_retry(const std::string& stage, at::ScalarType dtype) {
  log::warn(stage + " gave values that are not finite in " + dtype_name(dtype) + "; once more in f32");
}

void warn_of_cut(const TokenizedPrompt& tokens, int64_t max_length) {
  constexpr std::size_t kShown = 300;
  const bool long_text = tokens.cut.size() > kShown;
  const std::string text = json(tokens.cut.substr(0, kShown)).dump(-1, ' ', false, json::error_handler_t::ignore);
  log::warn("the prompt is longer than " + std::to_string(max_length) + " tokens; not seen by the model, the last " +
            std::to_string(tokens.cut_length) + ": " + text + (long_text ? " ..." : ""));
}

void check_tokenizer(const Checkpoint& c, const ClipTokenizer& tokenizer) {
  Faults faults;
  const std::string where = c.tokenizer_folder.string() + ": ";
  if (tokenizer.vocab_size() > c.text_encoder.vocab_size)
    faults.add(where + std::to_string(tokenizer.vocab_size()) + " tokens, but the text encoder has rows for " +
               std::to_string(c.text_encoder.vocab_size));
  if (tokenizer.max_length() > c.text_encoder.max_position_embeddings)
    faults.add(where + "prompts of " + std::to_string(tokenizer.max_length()) +
               " tokens, but the text encoder has positions for " +
               std::to_string(c.text_encoder.max_position_embeddings));
  faults.raise_if_any(ErrorKind::kFile);
}

}  // namespace

Pipeline::Stages::Stages(Checkpoint c, Precision precision)
    : checkpoint(std::move(c)),
      tokenizer(ClipTokenizer::from_folder(checkpoint.tokenizer_folder)),
      own(checkpoint, precision) {
  check_tokenizer(checkpoint, tokenizer);
}

StageSet& Pipeline::Stages::in_float32() {
  if (!float32) {
    Precision full = own.precision();
    full.text = full.unet = full.vae = at::kFloat;
    float32.emplace(checkpoint, full);
  }
  return *float32;
}

// [1, T, D] in the U-Net's dtype.
Tensor Pipeline::Stages::encode(StageSet& nets, const std::string& prompt, int64_t clip_skip, Timings& time) {
  constexpr std::size_t kRemembered = 64;
  const auto key = std::pair(prompt, clip_skip);
  if (const auto found = nets.encoded.find(key); found != nets.encoded.end()) return found->second;

  const TokenizedPrompt tokens = tokenizer.tokenize(prompt);
  if (tokens.cut_length > 0) warn_of_cut(tokens, tokenizer.max_length());
  const ClipTextEncoder& encoder = nets.text_encoder(&time.load);
  const double start = now_seconds();
  const Precision& p = nets.precision();
  const Tensor ids = at::tensor(tokens.ids, at::kLong).unsqueeze(0).to(p.device);
  const Tensor states = encoder(ids, clip_skip).to(p.unet);
  time.encode += now_seconds() - start;
  if (nets.encoded.size() >= kRemembered) nets.encoded.clear();
  return nets.encoded[key] = states;
}

// [2, T, D], unconditional first, or [1, T, D] without guidance. The negative prompt always takes the last layer:
// diffusers' encode_prompt skips layers for the prompt alone.
Tensor Pipeline::Stages::context(StageSet& nets, const Request& r, Timings& time) {
  const Tensor cond = encode(nets, *r.prompt, *r.clip_skip, time);
  if (*r.cfg_scale <= 1) return cond;
  return at::cat({encode(nets, r.negative_prompt.value_or(""), /*clip_skip=*/1, time), cond});
}

// [1, L, H/F, W/F] float32. The sampler computes in float32 whatever the network's dtype.
Tensor Pipeline::Stages::sample(StageSet& nets, const Request& r, const OnProgress& on_progress, Timings& time) {
  const Tensor hidden_states = context(nets, r, time);
  const UNet& unet = nets.unet(&time.load);
  const double start = now_seconds();
  const Precision& p = nets.precision();

  const std::unique_ptr<Sampler> sampler = make_sampler(r, checkpoint);
  RandomStream stream(*r.seed);
  const int64_t factor = checkpoint.vae.factor();
  const Shape shape = {1, checkpoint.vae.latent_channels, *r.height / factor, *r.width / factor};
  const Tensor noise = (stream.randn(shape) * sampler->init_scale()).to(p.device);

  const Network network = [&](const Tensor& x, double t) {
    check_interrupted();
    return unet(x.to(p.unet), t, hidden_states).to(at::kFloat);
  };
  const Denoiser denoise =
      make_denoiser(*r.cfg_scale > 1 ? guide(network, *r.cfg_scale) : network, sampler->prediction());
  const int total = static_cast<int>(sampler->steps().size());
  const Tensor latent = sampler->sample(
      denoise, noise, [&](at::IntArrayRef wanted) { return stream.randn(wanted); },
      [&](int i, const Tensor&) {
        if (on_progress) on_progress(i + 1, total);
      });
  time.sample += now_seconds() - start;
  return latent;
}

// [3, H, W] float32 on the CPU.
Tensor Pipeline::Stages::decode(StageSet& nets, const Tensor& latent, Timings& time) {
  check_interrupted();
  const VaeDecoder& decoder = nets.vae_decoder(&time.load);
  const double start = now_seconds();
  const Tensor pixels = decoder(latent.to(nets.precision().vae)).to(at::kFloat).to(at::kCPU)[0];
  time.decode += now_seconds() - start;
  return pixels;
}

Pipeline::Pipeline(Checkpoint checkpoint, Precision precision) {
  const c10::InferenceMode guard;
  audit(checkpoint, precision.unet != at::kFloat);
  stages_ = std::make_unique<Stages>(std::move(checkpoint), precision);
}

Pipeline::~Pipeline() = default;

Picture Pipeline::generate(const Request& r, const OnProgress& on_progress) {
  const c10::InferenceMode guard;
  Stages& s = *stages_;
  Picture picture;
  picture.precision = s.own.precision();
  check_memory(s.checkpoint, r, s.own.precision(), s.own.bytes_to_load());

  Tensor latent = s.sample(s.own, r, on_progress, picture.timings);
  if (!is_finite(latent) && picture.precision.unet != at::kFloat) {
    warn_of_retry("the U-Net", picture.precision.unet);
    picture.precision.text = picture.precision.unet = at::kFloat;
    latent = s.sample(s.in_float32(), r, on_progress, picture.timings);
  }
  if (!is_finite(latent)) throw not_finite("the U-Net");

  Tensor pixels = s.decode(s.own, latent, picture.timings);
  if (!is_finite(pixels) && picture.precision.vae != at::kFloat) {
    warn_of_retry("the VAE", picture.precision.vae);
    picture.precision.vae = at::kFloat;
    pixels = s.decode(s.in_float32(), latent, picture.timings);
  }
  if (!is_finite(pixels)) throw not_finite("the VAE");

  picture.latent = latent.to(at::kCPU);
  picture.image = to_image(pixels);
  return picture;
}

const Checkpoint& Pipeline::checkpoint() const { return stages_->checkpoint; }
const Precision& Pipeline::precision() const { return stages_->own.precision(); }

}  // namespace easel
