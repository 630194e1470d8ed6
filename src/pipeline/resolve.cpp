// A request + a checkpoint → the request with every field filled.
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

void check_size(const char* flag, int64_t pixels, const Checkpoint& c, Faults& faults) {
  if (pixels % c.vae.factor() != 0)
    faults.add(std::string(flag) + " " + std::to_string(pixels) + ": this model's VAE makes multiples of " +
               std::to_string(c.vae.factor()));
}

// Flags that would change nothing on this one picture.
void refuse_without_effect(const Request& given, const Request& filled, const SamplerRow& sampler, Faults& faults) {
  if (given.negative_prompt && *filled.cfg_scale <= 1)
    faults.add("--negative-prompt has no effect at --cfg-scale " + json(*filled.cfg_scale).dump() +
               ": guidance is off at 1 and below");
  if (given.eta && !sampler.has_eta) faults.add("--eta has no effect: the sampler " + sampler.name + " has none");
}

}  // namespace

std::unique_ptr<Sampler> make_sampler(const Request& request, const Checkpoint& checkpoint) {
  return find_sampler(*request.sampler)
      .make(checkpoint.scheduler, {.steps = static_cast<int>(*request.steps),
                                   .eta = request.eta.value_or(0.0),
                                   .prediction = prediction_of(request.prediction)});
}

Request resolve(const Request& given, const Checkpoint& c, const Precision& precision) {
  TORCH_CHECK(given.prompt && given.seed, "a request needs a prompt and a seed before it is resolved");
  Request r = given;
  fill(r.width, c.own_defaults.width, {c.native_width()});
  fill(r.height, c.own_defaults.height, {c.native_height()});
  fill(r.steps, c.own_defaults.steps, {c.family->steps});
  fill(r.cfg_scale, c.own_defaults.cfg_scale, {c.family->cfg_scale});
  fill(r.sampler, c.own_defaults.sampler);
  fill(r.prediction, c.own_defaults.prediction);
  fill(r.clip_skip, c.own_defaults.clip_skip, {1});
  const SamplerRow& sampler = r.sampler ? find_sampler(*r.sampler) : sampler_of(c.scheduler);
  r.sampler = sampler.name;
  if (sampler.has_eta) fill(r.eta, c.own_defaults.eta, {0.0});

  Faults faults;
  check_size("--width", *r.width, c, faults);
  check_size("--height", *r.height, c, faults);
  refuse_without_effect(given, r, sampler, faults);
  if (*r.clip_skip > c.text_encoder.num_hidden_layers)
    faults.add("--clip-skip " + std::to_string(*r.clip_skip) + ": this text encoder has layers 1 to " +
               std::to_string(c.text_encoder.num_hidden_layers));
  try {
    r.prediction = word_of(make_sampler(r, c)->prediction());
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) throw;
    for (const std::string& fault : error.faults())
      faults.add(fault + (error.hint().empty() ? "" : "; " + error.hint()));
  }
  faults.raise_if_any(ErrorKind::kUsage);

  r.model = given.model.value_or(kBundledModel);
  r.device = precision.device_name();
  r.dtype = precision.dtype_name();
  r.prompt_syntax = "raw";
  return r;
}

}  // namespace easel
