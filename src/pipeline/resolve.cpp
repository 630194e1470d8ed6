// A request + a checkpoint → the request with every field filled.
#include "pipeline/effects.h"
#include "pipeline/stages.h"

namespace easel {

namespace {

std::optional<PredictionType> prediction_of(const std::optional<std::string>& word) {
  if (!word) return std::nullopt;
  return *word == "eps" ? PredictionType::kEpsilon
         : *word == "v" ? PredictionType::kVPrediction
                        : PredictionType::kSample;
}

const char* word_of(PredictionType prediction) {
  switch (prediction) {
    case PredictionType::kEpsilon:
      return "eps";
    case PredictionType::kVPrediction:
      return "v";
    case PredictionType::kSample:
      return "x0";
  }
  return "";
}

template <class T>
void fill(std::optional<T>& field, const std::optional<T>& first, const std::optional<T>& second = {}) {
  if (!field) field = first ? first : second;
}

// Both of diffusers' defaults of SDXL's image-to-image pipeline.
constexpr double kAestheticScore = 6.0, kNegativeAestheticScore = 2.5;
// The share that the base model takes in the SDXL report's ensemble of experts, as diffusers documents it.
constexpr double kRefinerStart = 0.8;
// LatentConsistencyModelPipeline's.
constexpr double kDistilledCfgScale = 8.5;
constexpr int64_t kDistilledSteps = 4;

void fill_sampling(Request& r, const Checkpoint& c) {
  const bool distilled = c.unet.time_cond_proj_dim > 0;
  fill(r.width, c.own_defaults.width, {c.native_width()});
  fill(r.height, c.own_defaults.height, {c.native_height()});
  fill(r.steps, c.own_defaults.steps, {distilled ? kDistilledSteps : c.family->steps});
  fill(r.cfg_scale, c.own_defaults.cfg_scale, {distilled ? kDistilledCfgScale : c.family->cfg_scale});
  fill(r.sampler, c.own_defaults.sampler);
  fill(r.prediction, c.own_defaults.prediction);
  fill(r.clip_skip, c.own_defaults.clip_skip, {c.own_clip_skip()});
  if (c.is_guided(*r.cfg_scale)) fill(r.cfg_rescale, c.own_defaults.cfg_rescale, {0.0});
}

void fill_sdxl(Request& r, const Checkpoint& c) {
  const std::string size = std::to_string(*r.width) + "x" + std::to_string(*r.height);
  fill(r.original_size, {size});
  fill(r.crop, {"0,0"});
  if (!c.requires_aesthetics_score) fill(r.target_size, {size});
  if (c.requires_aesthetics_score || (c.refiner && c.refiner->requires_aesthetics_score)) {
    fill(r.aesthetic_score, {kAestheticScore});
    if (*r.cfg_scale > 1) fill(r.negative_aesthetic_score, {kNegativeAestheticScore});
  }
  if (c.refiner) fill(r.refiner_start, {kRefinerStart});
}

void check_size(const char* flag, int64_t pixels, const Checkpoint& c, Faults& faults) {
  if (pixels % c.vae.factor() != 0)
    faults.add(std::string(flag) + " " + std::to_string(pixels) + ": this model's VAE makes multiples of " +
               std::to_string(c.vae.factor()));
}

void check_clip_skip(int64_t clip_skip, const Checkpoint& c, Faults& faults) {
  const std::string given = "--clip-skip " + std::to_string(clip_skip) + ": ";
  const int64_t left_out = c.layers_left_out();
  for (const auto* part : {&c.text_encoder, &c.text_encoder_2}) {
    if (!*part) continue;
    const int64_t last = (*part)->spec.num_hidden_layers + left_out;
    if (clip_skip > last) {
      faults.add(given + "this text encoder has layers 1 to " + std::to_string(last));
      return;
    }
  }
  if (clip_skip <= left_out)
    faults.add(given + "this checkpoint leaves out the text encoder's last layer, as published; from " +
               std::to_string(left_out + 1) + " on");
}

// `make` one after the other, so that a picture that cannot be sampled is told with the other faults.
template <class Make>
void collect_usage_faults(Faults& faults, const Make& make) {
  try {
    make();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) throw;
    for (const std::string& fault : error.faults())
      faults.add(fault + (error.hint().empty() ? "" : "; " + error.hint()));
  }
}

SamplerOptions sampler_options(const Request& r) { return {.steps = static_cast<int>(*r.steps), .eta = r.eta}; }

}  // namespace

std::unique_ptr<Sampler> make_sampler(const Request& r, const Checkpoint& c) {
  SamplerOptions options = sampler_options(r);
  options.prediction = prediction_of(r.prediction);
  options.denoising_end = r.refiner_start;
  return find_sampler(*r.sampler).make(c.scheduler, options);
}

// The base's sampler on the refiner's schedule: latents are handed over in the sampler's own scaling. What the refiner
// predicts is its own affair.
std::unique_ptr<Sampler> make_refiner_sampler(const Request& r, const Checkpoint& refiner) {
  SamplerOptions options = sampler_options(r);
  options.denoising_start = r.refiner_start;
  return find_sampler(*r.sampler).make(refiner.scheduler, options);
}

Request resolve(const Request& given, const Checkpoint& c, const Precision& precision) {
  TORCH_CHECK(given.prompt && given.seed, "a request needs a prompt and a seed before it is resolved");
  Request r = given;
  fill_sampling(r, c);
  if (c.is_sdxl()) fill_sdxl(r, c);
  const SamplerRow& sampler = r.sampler ? find_sampler(*r.sampler) : sampler_of(c.scheduler);
  r.sampler = sampler.name;
  if (sampler.has_eta) fill(r.eta, c.own_defaults.eta, {sampler.default_eta});

  Faults faults;
  refuse_picture_models(c, faults);
  check_size("--width", *r.width, c, faults);
  check_size("--height", *r.height, c, faults);
  refuse_without_effect(given, r, c, sampler, faults);
  check_clip_skip(*r.clip_skip, c, faults);
  if (c.refiner) check_clip_skip(*r.clip_skip, *c.refiner, faults);
  if (!c.refiner) r.refiner_start.reset();  // refused above where it was given
  collect_usage_faults(faults, [&] { r.prediction = word_of(make_sampler(r, c)->prediction()); });
  if (c.refiner) collect_usage_faults(faults, [&] { make_refiner_sampler(r, *c.refiner); });
  faults.raise_if_any(ErrorKind::kUsage);

  r.model = given.model.value_or(kBundledModel);
  r.device = precision.device_name();
  r.dtype = precision.dtype_name();
  r.prompt_syntax = "raw";
  return r;
}

}  // namespace easel
