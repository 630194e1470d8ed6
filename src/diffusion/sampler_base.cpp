#include "diffusion/sampler_base.h"

#include <algorithm>
#include <cmath>

#include "diffusion/schedule_table.h"

namespace easel {
namespace diffusion {

double lambda(const Step& step) { return std::log(step.alpha) - std::log(step.sigma); }

// ---- a run --------------------------------------------------------------------------------------------------------

namespace {

Step with_progress(Step step, std::size_t leg, std::size_t legs) {
  step.progress = static_cast<double>(leg) / static_cast<double>(legs);
  return step;
}

}  // namespace

Prediction Run::predict_unclipped(const Tensor& x, std::size_t leg) {
  ++calls_;
  return denoise_(x, with_progress(legs[leg].from, leg, legs.size()));
}

Prediction Run::predict_at(const Tensor& x, const Step& at, std::size_t leg) {
  ++calls_;
  Prediction p = denoise_(x, with_progress(at, leg, legs.size()));
  if (!spec.thresholding && !spec.clip_sample) return p;
  p.x0 = clipped(spec, p.x0);
  p.eps = (x - at.alpha * p.x0) / at.sigma;
  return p;
}

void Run::report(const Tensor& x) const {
  if (on_step_) on_step_(calls_ - 1, x);
}

// ---- a sampler ----------------------------------------------------------------------------------------------------

namespace {

double fraction(const char* name, double value) {
  if (value > 0 && value < 1) return value;
  throw Error(ErrorKind::kUsage, std::string(name) + " " + plain(value) + ": expected a number between 0 and 1");
}

// Legs before the first whose timestep is below round(T − f·T).
std::size_t legs_above(const Plan& plan, int64_t train, double f) {
  const double cutoff = std::nearbyint(static_cast<double>(train) - f * static_cast<double>(train));
  const auto below = [&](const Leg& leg) { return leg.from.t < cutoff; };
  return std::find_if(plan.legs.begin(), plan.legs.end(), below) - plan.legs.begin();
}

}  // namespace

BoundSampler::BoundSampler(ScheduleSpec spec, Plan plan, Method method, double eta, const SamplerOptions& options)
    : spec_(std::move(spec)), plan_(std::move(plan)), method_(std::move(method)), eta_(eta), end_(plan_.legs.size()) {
  if (!(options.strength >= 0 && options.strength <= 1))
    throw Error(ErrorKind::kUsage, "--strength " + plain(options.strength) + ": expected a number from 0 to 1");
  const int64_t train = spec_.num_train_timesteps;
  begin_ = static_cast<std::size_t>(plan_.steps - static_cast<int>(plan_.steps * options.strength));
  if (options.denoising_start)
    begin_ = std::max(begin_, legs_above(plan_, train, fraction("denoising_start", *options.denoising_start)));
  if (options.denoising_end)
    end_ = std::min(end_, legs_above(plan_, train, fraction("denoising_end", *options.denoising_end)));
  if (begin_ < end_) return;
  throw Error(ErrorKind::kUsage,
              "no step is left of " + std::to_string(plan_.steps) + ": they are cut to the part from step " +
                  std::to_string(begin_) + " to step " + std::to_string(end_),
              "take more --steps, or a larger part of them (--strength, --refiner-start)");
}

Tensor BoundSampler::sample(const Denoiser& denoise, Tensor x, const NoiseSource& noise, const OnStep& on_step) const {
  Run run(spec_, plan_.legs, begin_, end_, eta_, denoise, noise, on_step);
  return method_(run, std::move(x));
}

// The method itself says where it calls the network: it is run on one number with a network that says 0.
std::vector<Step> BoundSampler::steps() const {
  std::vector<Step> steps;
  const Tensor zero = at::zeros({1, 1, 1, 1}, at::kDouble);
  const Denoiser recorder = [&](const Tensor&, const Step& step) {
    steps.push_back(step);
    return Prediction{zero, zero, zero};
  };
  sample(
      recorder, zero, [&](at::IntArrayRef) { return zero; }, nullptr);
  return steps;
}

Tensor BoundSampler::noised(const Tensor& x0, const Tensor& noise) const {
  const Step& first = plan_.legs[begin_].from;
  return first.alpha * x0 + first.sigma * noise;
}

// ---- from a file and a request ------------------------------------------------------------------------------------

ScheduleSpec spec_for(const SchedulerConfig& config, const SamplerOptions& options, const char* class_name,
                      Schedules allowed, const json& arguments) {
  ScheduleSpec spec = read_spec(config, class_name, arguments);
  spec.prediction = options.prediction.value_or(spec.prediction);
  if (options.eta) eta_for(options, 0);
  set_schedule(spec, options, allowed);
  return spec;
}

double eta_for(const SamplerOptions& options, double default_eta) {
  const double eta = options.eta.value_or(default_eta);
  if (eta >= 0 && eta <= 1) return eta;
  throw Error(ErrorKind::kUsage, "--eta " + json(eta).dump() + ": expected a number from 0 to 1");
}

int steps_of(const ScheduleSpec& spec, const SamplerOptions& options) {
  if (spec.sigma_rule == SigmaRule::kGivenSigmas) return static_cast<int>(spec.sigmas.size()) - 1;
  if (spec.sigma_rule == SigmaRule::kGivenTimesteps) return static_cast<int>(spec.timesteps.size());
  return options.steps;
}

// ---- plans --------------------------------------------------------------------------------------------------------

Plan sigma_plan(const ScheduleSpec& spec, int n, const SigmaHabits& habits) {
  const SigmaSchedule schedule = sigma_schedule(spec, n, habits);
  Plan plan;
  plan.steps = static_cast<int>(schedule.t.size());
  for (int i = 0; i < plan.steps; ++i) {
    const double next_t = i + 1 < plan.steps ? schedule.t[i + 1] : 0.0;
    plan.legs.push_back({{schedule.t[i], 1.0, schedule.sigma[i]}, {next_t, 1.0, schedule.sigma[i + 1]}});
  }
  const double max = *std::max_element(schedule.sigma.begin(), schedule.sigma.end());
  // diffusers' init_noise_sigma: under leading spacing x_T is the sum of a unit picture and the noise.
  plan.init_scale = spec.timestep_spacing == TimestepSpacing::kLeading ? std::sqrt(max * max + 1) : max;
  return plan;
}

Plan solver_plan(const ScheduleSpec& spec, int n, const SigmaHabits& habits) {
  Plan plan = sigma_plan(spec, n, habits);
  for (Leg& leg : plan.legs) {
    for (Step* step : {&leg.from, &leg.to}) {
      step->alpha = 1 / std::hypot(1.0, step->sigma);
      step->sigma *= step->alpha;
    }
  }
  plan.init_scale = 1.0;
  return plan;
}

Step step_at(const ScheduleSpec& spec, const std::vector<double>& alpha_bar, double t) {
  if (t < 0 || t >= static_cast<double>(spec.num_train_timesteps) || t != std::floor(t))
    // diffusers: IndexError in the first step
    throw Error(ErrorKind::kUsage,
                "with steps_offset " + std::to_string(spec.steps_offset) + " these steps visit timestep " + plain(t) +
                    ", the model knows 0 to " + std::to_string(spec.num_train_timesteps - 1) + " in whole numbers",
                "take fewer --steps");
  const double bar = alpha_bar[static_cast<std::size_t>(t)];
  if (bar == 0 && spec.prediction == PredictionType::kEpsilon)  // diffusers: NaN
    throw Error(ErrorKind::kFile,
                spec.where + ": rescale_betas_zero_snr is true and prediction_type epsilon: at timestep " + plain(t) +
                    " the picture is pure noise, and eps says nothing of it",
                "zero-terminal SNR needs v_prediction or sample (--prediction)");
  return {t, std::sqrt(bar), std::sqrt(1 - bar)};
}

Plan timestep_plan(const ScheduleSpec& spec, const std::vector<double>& timesteps, double final_alpha_bar) {
  const std::vector<double> alpha_bar = alphas_cumprod(spec);
  Plan plan;
  plan.steps = static_cast<int>(timesteps.size());
  for (const double t : timesteps) {
    const Step step = step_at(spec, alpha_bar, t);
    if (!plan.legs.empty()) {
      if (t >= plan.legs.back().from.t)
        throw Error(
            ErrorKind::kUsage,
            "timestep " + plain(t) + " comes after " + plain(plan.legs.back().from.t) + ": timesteps have to fall",
            "take fewer --steps or another --scheduler");
      plan.legs.back().to = step;
    }
    plan.legs.push_back({step, {-1, std::sqrt(final_alpha_bar), std::sqrt(1 - final_alpha_bar)}});
  }
  return plan;
}

// ---- clipping -----------------------------------------------------------------------------------------------------

namespace {

// s is a percentile of |x0| in each picture, at least 1: x0 is clamped to [−s, s] and divided by s.
Tensor dynamically_thresholded(const ScheduleSpec& spec, const Tensor& x0) {
  const at::ScalarType precise = x0.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor flat = x0.to(precise).flatten(1);  // [B, C·H·W]
  Tensor s = at::quantile(flat.abs(), spec.dynamic_thresholding_ratio, /*dim=*/1, /*keepdim=*/true);
  s = s.clamp(1.0, spec.sample_max_value);
  return (at::clamp(flat, -s, s) / s).view(x0.sizes()).to(x0.scalar_type());
}

}  // namespace

Tensor clipped(const ScheduleSpec& spec, const Tensor& x0) {
  if (spec.thresholding) return dynamically_thresholded(spec, x0);
  if (spec.clip_sample) return x0.clamp(-spec.clip_sample_range, spec.clip_sample_range);
  return x0;
}

}  // namespace diffusion

Tensor add_noise(const SchedulerConfig& config, const Tensor& x0, const Tensor& noise, int64_t t) {
  const diffusion::ScheduleSpec spec = diffusion::read_spec(config, "DDPMScheduler");
  if (t < 0 || t >= spec.num_train_timesteps)
    throw Error(ErrorKind::kUsage, "timestep " + std::to_string(t) + ": the model knows 0 to " +
                                       std::to_string(spec.num_train_timesteps - 1));
  const double alpha_bar = diffusion::alphas_cumprod(spec)[t];
  return std::sqrt(alpha_bar) * x0 + std::sqrt(1 - alpha_bar) * noise;
}

}  // namespace easel
