// diffusion: noise schedules, predictions, guidance and samplers. Pure maths on tensors; knows no network and no file.
//
// A step has x = alpha·x0 + sigma·eps. Variance-preserving samplers (DDPM, DDIM, PNDM, LCM, TCD, the DPM-Solver family)
// have alpha² + sigma² = 1; k-diffusion samplers (Euler, Heun, …) have alpha = 1. The network always sees
// x / √(alpha² + sigma²).
// Schedule maths is float64 on the CPU, cast at the border.
#pragma once

#include "easel/core.h"
#include "easel/tensor.h"

namespace easel {

// ---- schedules ----------------------------------------------------------------------------------------------------

enum class PredictionType { kEpsilon, kVPrediction, kSample };
// "epsilon", "v_prediction", "sample": scheduler_config.json's words.
std::string to_string(PredictionType prediction);

// What a scheduler_config.json says. A field absent from the file takes the default of the sampler that is chosen, as
// diffusers' Class.from_config does; a field the chosen class does not have is not looked at by it.
struct SchedulerConfig {
  std::string class_name;        // "_class_name", e.g. "PNDMScheduler"; empty when absent
  json fields = json::object();  // the file's own fields, unfilled, checked for type and word
  std::string where;             // the file, for messages

  // Throws Error(kFile) naming file, field, value and what is supported: wrong types, unknown words, and fields that
  // describe another kind of noise (flow matching, EDM). A field nobody knows gets a warning and is ignored, as in
  // diffusers.
  static SchedulerConfig from_json(const json& file, const std::string& where);
};

struct Step {
  double t;      // training timestep the network is told (fractional for some schedules)
  double alpha;  // x = alpha·x0 + sigma·eps
  double sigma;
  double progress = 0;  // steps of the whole run before this one, over their number: 0 … below 1
};

// ---- predictions --------------------------------------------------------------------------------------------------

struct Prediction {
  Tensor x0;  // unclipped
  Tensor eps;
  Tensor variance;  // the second C channels of a network with 2C (learned variances), else undefined
};

// x: [B, C, H, W] in the sampler's own scaling (x = alpha·x0 + sigma·eps).
using Denoiser = std::function<Prediction(const Tensor& x, const Step& step)>;

// The raw network: (network input [B, C, H, W], t) → output of the same shape, or [B, 2C, H, W] with learned variances.
using Network = std::function<Tensor(const Tensor& x, double t)>;

// Wraps a network that predicts eps (Ho et al. 2020), v (Salimans & Ho 2022, §D) or x0 into a Denoiser. At alpha = 0
// (zero-terminal SNR) an eps network leaves x0 undetermined: samplers refuse that pair when they are made.
Denoiser make_denoiser(Network network, PredictionType prediction);

// Classifier-free guidance (Ho & Salimans 2022, eq. 6) on raw network outputs: uncond + scale·(cond − uncond).
// Both halves go through the network as one batch of 2B: unconditional first, as diffusers concatenates.
// `rescale` is φ of Lin et al. 2023 (arXiv:2305.08891), §3.4: the result's deviation over each picture is moved towards
// that of `cond`, all the way at 1, not at all at 0. One scale and one φ for all pictures, or B of them.
Network guide(Network batch_of_two, std::vector<double> scales, std::vector<double> rescales = {0});
Network guide(Network batch_of_two, double scale, double rescale = 0);

// Several conditions a picture (Composable Diffusion, Liu et al. 2022, eq. 11): uncond + scale·Σ_k w_k·(cond_k −
// uncond). The network takes a batch of (1 + K)·B: all unconditional ones, all first conditions, all second ones.
// `weights`: K for each of the B pictures.
Network guide(Network batch, std::vector<double> scales, std::vector<double> rescales,
              std::vector<std::vector<double>> weights);
// Without guidance: the weighted mean of K conditions, of a batch of K·B; the first where the weights add up to 0.
Network composed(Network batch, std::vector<std::vector<double>> weights);

// Guidance in an interval (Kynkäänniemi et al. 2024): `guided` for steps with start ≤ progress < end, else `plain`,
// which is the conditional half alone and so costs half.
Denoiser guided_between(double start, double end, Denoiser guided, Denoiser plain);

// Shows every call of `denoise`: the x it was given, where, and what came out. x / √(alpha² + sigma²) is the noisy
// picture in the scale the network sees.
using OnPrediction = std::function<void(const Tensor& x, const Step& step, const Prediction& prediction)>;
Denoiser watched(Denoiser denoise, OnPrediction see);

// ---- samplers -----------------------------------------------------------------------------------------------------

// float32 noise of the given shape, one stream per picture of the batch. Called only for steps whose reference draws
// noise, once a step, in the order of the steps.
using NoiseSource = std::function<Tensor(at::IntArrayRef shape)>;

struct SamplerOptions {
  int steps = 20;
  std::optional<double> eta = {};                 // 0…1, read only by samplers with has_eta; absent: their default
  std::optional<PredictionType> prediction = {};  // overrides the file's

  std::string schedule = {};           // any spelling of schedule_table(); empty: the file's own
  std::optional<double> rho = {};      // exponent of karras (7) and polyexponential (1), above 0
  std::vector<double> sigmas = {};     // explicit: n + 1 falling numbers, only the last may be 0; `steps` is not read
  std::vector<double> timesteps = {};  // explicit: n falling timesteps; `steps` is not read

  // Part of a run, by diffusers' rules; several cuts add up. strength s keeps the last trunc(n·s) steps (img2img);
  // denoising_end f those whose timestep is at least round(T − f·T) (the base of a base and a refiner), denoising_start
  // f those below it (the refiner). Whole steps always: diffusers splits a two-call step of heun between the models.
  double strength = 1.0;
  std::optional<double> denoising_start = {}, denoising_end = {};
};

// A sampler bound to a checkpoint's schedule and a number of steps.
class Sampler {
 public:
  virtual ~Sampler() = default;
  // Pure noise N(0,1) → x_T of this sampler (multiplied by init_noise_sigma).
  virtual double init_scale() const = 0;
  virtual PredictionType prediction() const = 0;
  virtual std::vector<Step> steps() const = 0;  // one per network call, in order
  // A picture and noise N(0,1) → x at the first step of a run that begins from the picture (strength below 1).
  virtual Tensor noised(const Tensor& x0, const Tensor& noise) const = 0;
  // x at the first step → x after the last (latents x_0 unless denoising_end stops before), in x's own dtype and
  // device. `on_step(i, x)`, which may be empty, is called after the update that follows network call i.
  virtual Tensor sample(const Denoiser& denoise, Tensor x, const NoiseSource& noise,
                        const std::function<void(int, const Tensor&)>& on_step) const = 0;
};

// Which schedules a sampler can walk.
enum class Schedules {
  kAny,
  kTimesteps,  // whole training timesteps: the spacings, sgm_uniform, simple, ays, --timesteps
  kSpacings,   // evenly spaced timesteps: leading, linspace, trailing
  kKarras,     // karras alone: the sampler's own rule rests on it
};

struct SamplerRow {
  std::string name;                  // "ddim"
  std::vector<std::string> aliases;  // other spellings users know, among them the diffusers class name
  std::string reference;             // "DDIMScheduler", or the tool whose rule it is
  std::string paper;
  int order;            // of convergence on the probability flow ODE, without noise, once history has grown
  int calls_per_step;   // network calls of a step in mid-run
  Schedules schedules;  // those it can walk
  bool has_eta;
  double default_eta;  // 0 without has_eta
  bool stochastic;     // draws noise, with its default eta
  std::string remark;  // where the reference fails or differs and what is done instead; may be empty
  // Throws Error(kFile) for fields of the config this sampler cannot honour, naming them, and Error(kUsage) for a
  // number of steps, an eta, a schedule or a part of a run it cannot take.
  std::unique_ptr<Sampler> (*make)(const SchedulerConfig& config, const SamplerOptions& options);
};

const std::vector<SamplerRow>& sampler_table();
// By any spelling (case, spaces, '-', '_' ignored; "++" is "pp"; with or without k_ and sample_). Throws Error(kUsage)
// with the nearest names.
const SamplerRow& find_sampler(std::string_view spelling);
// The row of a checkpoint's own scheduler class. Throws Error(kFile) if unsupported, naming the class and --sampler.
const SamplerRow& sampler_of(const SchedulerConfig& config);

struct ScheduleRow {
  std::string name;  // "karras"
  std::vector<std::string> aliases;
  std::string reference;  // whose rule it is
  std::string paper;
  std::string remark;
};

const std::vector<ScheduleRow>& schedule_table();
// By any spelling, as find_sampler. Throws Error(kUsage) with the nearest names.
const ScheduleRow& find_schedule(std::string_view spelling);
bool can_walk(const SamplerRow& sampler, const ScheduleRow& schedule);

// A sampler's name that may end in a schedule's, as users of A1111 ("DPM++ 2M Karras") and InvokeAI ("euler_k") write.
struct SamplerChoice {
  const SamplerRow& sampler;
  const ScheduleRow* schedule;  // null: not named
};
SamplerChoice choose_sampler(std::string_view spelling);

// DDPM's forward process q(x_t | x_0) (Ho et al. 2020, eq. 4): sqrt(ᾱ_t)·x0 + sqrt(1 − ᾱ_t)·noise, t in
// [0, num_train_timesteps). Throws Error(kUsage) for another t.
Tensor add_noise(const SchedulerConfig& config, const Tensor& x0, const Tensor& noise, int64_t t);

}  // namespace easel
