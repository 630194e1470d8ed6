// A request + a checkpoint → the request with every field filled.
#include <charconv>
#include <cmath>

#include "pipeline/controls.h"
#include "pipeline/effects.h"
#include "pipeline/loras.h"
#include "pipeline/picture_request.h"
#include "pipeline/pixel_model.h"
#include "pipeline/prompt_plan.h"
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
  fill(r.scheduler, c.own_defaults.scheduler);
  if (!c.is_guided(*r.cfg_scale)) return;
  fill(r.cfg_rescale, c.own_defaults.cfg_rescale, {0.0});
  fill(r.cfg_start, c.own_defaults.cfg_start, {0.0});
  fill(r.cfg_end, c.own_defaults.cfg_end, {1.0});
}

void fill_sdxl(Request& r, const Checkpoint& c) {
  const std::string size = std::to_string(*r.width) + "x" + std::to_string(*r.height);
  fill(r.original_size, {size});
  fill(r.crop, {"0,0"});
  if (!c.requires_aesthetics_score) fill(r.target_size, {size});
  if (c.requires_aesthetics_score || (c.refiner && c.refiner->requires_aesthetics_score)) {
    fill(r.aesthetic_score, {kAestheticScore});
    if (c.is_guided(*r.cfg_scale)) fill(r.negative_aesthetic_score, {kNegativeAestheticScore});
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
  if (c.multilingual && clip_skip != 1)
    faults.add(given + "AltDiffusion's text encoder is read at its end alone, layer 1");
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

// "14.6,7,0" → numbers; nullopt for any other text.
std::optional<std::vector<double>> numbers_of(std::string_view text) {
  std::vector<double> numbers;
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    more = comma != std::string_view::npos;
    const std::string_view word = text.substr(0, comma);
    double value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size() || !std::isfinite(value)) return std::nullopt;
    numbers.push_back(value);
    if (more) text.remove_prefix(comma + 1);
  }
  return numbers;
}

// Steps follow from an explicit list.
void count_steps(Request& r, Faults& faults) {
  const auto count = [&](const std::optional<std::string>& list, const char* flag, int64_t more_than_steps) {
    if (!list) return;
    const auto numbers = numbers_of(*list);
    if (!numbers) {
      faults.add(std::string(flag) + " " + shown(json(*list)) + ": expected numbers with commas between, as 14.6,7,0");
      return;
    }
    const int64_t steps = static_cast<int64_t>(numbers->size()) - more_than_steps;
    if (r.steps && *r.steps != steps)
      faults.add("--steps " + std::to_string(*r.steps) + ": " + flag + " gives " + std::to_string(steps));
    r.steps = steps;
  };
  if (r.sigmas && r.timesteps) faults.add("--sigmas and --timesteps exclude each other");
  if ((r.sigmas || r.timesteps) && r.scheduler && *r.scheduler != "model")
    faults.add("--scheduler has no effect: " + std::string(r.sigmas ? "--sigmas" : "--timesteps") +
               " says the noise levels");
  count(r.sigmas, "--sigmas", 1);
  count(r.timesteps, "--timesteps", 0);
}

}  // namespace

void resolve_sampler(Request& r, bool sdxl, Faults& faults) {
  const SamplerChoice choice = choose_sampler(*r.sampler);
  r.sampler = choice.sampler.name;
  if (r.scheduler) r.scheduler = find_schedule(*r.scheduler).name;
  if (choice.schedule != nullptr) {
    if (r.scheduler && *r.scheduler != choice.schedule->name)
      faults.add("--scheduler " + *r.scheduler + ": the sampler's name says " + choice.schedule->name);
    r.scheduler = choice.schedule->name;
  }
  if (r.scheduler == "ays" && sdxl) r.scheduler = "ays_sdxl";
  if (!r.scheduler) r.scheduler = "model";
}

SamplerOptions sampler_options(const Request& r) {
  SamplerOptions options{.steps = static_cast<int>(*r.steps), .eta = r.eta, .prediction = prediction_of(r.prediction)};
  options.strength = r.strength.value_or(1.0);
  if (r.sigmas) options.sigmas = numbers_of(*r.sigmas).value_or(std::vector<double>{});
  if (r.timesteps) options.timesteps = numbers_of(*r.timesteps).value_or(std::vector<double>{});
  if (!r.sigmas && !r.timesteps) options.schedule = r.scheduler.value_or("");
  return options;
}

std::unique_ptr<Sampler> make_sampler(const Request& r, const Checkpoint& c) {
  SamplerOptions options = sampler_options(r);
  options.denoising_end = r.refiner_start;
  return find_sampler(*r.sampler).make(c.scheduler, options);
}

// The base's sampler on the refiner's schedule: latents are handed over in the sampler's own scaling. What the refiner
// predicts is its own affair.
std::unique_ptr<Sampler> make_refiner_sampler(const Request& r, const Checkpoint& refiner) {
  SamplerOptions options = sampler_options(r);
  options.prediction = {};
  options.denoising_start = r.refiner_start;
  options.strength = 1.0;  // it goes on where the base model stopped
  return find_sampler(*r.sampler).make(refiner.scheduler, options);
}

Request resolve(const Request& given, const Checkpoint& c, const Precision& precision,
                std::vector<std::string>* notes) {
  if (c.pixel) return resolve(given, *c.pixel, precision, notes);
  TORCH_CHECK(given.prompt && given.seed, "a request needs a prompt and a seed before it is resolved");
  Faults faults;
  Request r = given;
  count_steps(r, faults);
  fill(r.prompt_syntax, {"a1111"});
  if (r.prompt_syntax == "a1111") fill(r.prompt_weighting, {"a1111"});
  IdleFields idle;
  find_idle_picture_fields(given, idle);
  settle(idle, r, faults, notes);
  refuse_pictures(r, c, faults);
  faults.raise_if_any(ErrorKind::kUsage);  // before a picture is looked at
  fill_picture(r, c, faults);
  fill_controls(r, faults);
  fill_sampling(r, c);
  if (c.is_sdxl()) fill_sdxl(r, c);
  if (!r.sampler) r.sampler = sampler_of(c.scheduler).name;
  resolve_sampler(r, c.is_sdxl(), faults);
  const SamplerRow& sampler = find_sampler(*r.sampler);
  if (sampler.has_eta) fill(r.eta, c.own_defaults.eta, {sampler.default_eta});

  check_size("--width", *r.width, c, faults);
  check_size("--height", *r.height, c, faults);
  idle.clear();
  find_idle_fields(given, r, c, sampler, idle);
  settle(idle, r, faults, notes);
  plan_prompt(r, c, std::nullopt, faults);
  check_clip_skip(*r.clip_skip, c, faults);
  if (c.refiner) check_clip_skip(*r.clip_skip, *c.refiner, faults);
  if (!c.refiner) r.refiner_start.reset();  // refused above where it was given
  collect_usage_faults(faults, [&] { r.prediction = word_of(make_sampler(r, c)->prediction()); });
  if (c.refiner) collect_usage_faults(faults, [&] { make_refiner_sampler(r, *c.refiner); });
  if (r.hires && !r.hires_steps) r.hires_steps = r.steps;
  if (const auto second = second_pass(r)) collect_usage_faults(faults, [&] { make_sampler(*second, c); });
  faults.raise_if_any(ErrorKind::kUsage);

  open_controls(r, c);
  tell_of_control_sizes(r);
  if (r.embd_dir) prompt_shape(r, c);  // reads the files that its prompts name
  const bool has_loras = !open_loras(r, c).empty();
  IdleFields without_lora;
  if (given.lora_partial.value_or(false) && !has_loras)
    without_lora.push_back({"lora_partial", "--lora-partial has no effect without a LoRA"});
  if (given.lora_apply && !has_loras)
    without_lora.push_back({"lora_apply", "--lora-apply has no effect without a LoRA"});
  settle(without_lora, r, faults, notes);
  faults.raise_if_any(ErrorKind::kUsage);

  r.model = given.model.value_or(kBundledModel);
  r.device = precision.device_name();
  r.dtype = precision.dtype_name();
  return r;
}

}  // namespace easel
