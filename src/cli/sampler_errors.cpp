#include "cli/sampler_errors.h"

#include <cmath>

namespace easel::cli {

namespace {

// scheduler_config.json of Stable Diffusion 1.5.
const json kStableDiffusion = {
    {"beta_start", 0.00085}, {"beta_end", 0.012},           {"beta_schedule", "scaled_linear"},
    {"steps_offset", 1},     {"skip_prk_steps", true},      {"set_alpha_to_one", false},
    {"clip_sample", false},  {"prediction_type", "epsilon"}};

// The target: independent Gaussian numbers of these deviations, as the coarse and fine parts of pictures have. [K, 1]
Tensor deviations() { return at::logspace(std::log10(0.5), std::log10(2.0), 8, 10.0, at::kDouble).unsqueeze(1); }

// E[x0 | x] = x·α·s²/(α²s² + σ²) for x = α·x0 + σ·eps. x: [1, 1, K, any]
Prediction ideal(const Tensor& x, const Step& step) {
  const Tensor s2 = deviations().square(), variance = step.alpha * step.alpha * s2 + step.sigma * step.sigma;
  return {x * (step.alpha * s2 / variance), x * (step.sigma / variance), {}};
}

// On this target every step is linear in x and the noise: column 0 answers to x_T, column k to the k-th draw, and the
// sum of squares is the variance reached, without chance.
Tensor deviations_reached(const Sampler& sampler) {
  const int64_t rows = deviations().size(0);
  int64_t draws = 0;
  const NoiseSource count = [&](at::IntArrayRef shape) { return ++draws, at::zeros(shape, at::kDouble); };
  sampler.sample(ideal, at::zeros({1, 1, rows, 1}, at::kDouble), count, nullptr);

  const Step first = sampler.steps().front();
  const Tensor x = at::zeros({1, 1, rows, draws + 1}, at::kDouble);
  const Tensor variance = first.alpha * first.alpha * deviations().square() + first.sigma * first.sigma;
  x.select(3, 0).copy_(variance.sqrt().view({1, 1, rows}));
  int64_t k = 0;
  const NoiseSource one_each = [&](at::IntArrayRef shape) {
    const Tensor z = at::zeros(shape, at::kDouble);
    z.select(3, ++k).fill_(1);
    return z;
  };
  return sampler.sample(ideal, x, one_each, nullptr).square().sum(3).sqrt().view({rows, 1});
}

}  // namespace

std::vector<SamplerError> sampler_errors() {
  const SchedulerConfig config = SchedulerConfig::from_json(kStableDiffusion, "Stable Diffusion 1.5");
  const ScheduleRow& karras = find_schedule("karras");
  std::vector<SamplerError> errors;
  for (const SamplerRow& row : sampler_table()) {
    if (row.name == "lcm" || row.name == "tcd") continue;
    for (const int calls : {4, 6, 8, 10, 14, 20, 28, 40, 56, 80, 112, 160}) {
      const int steps = calls / row.calls_per_step;
      const std::string schedule = can_walk(row, karras) ? karras.name : "model";
      const auto sampler = row.make(config, {.steps = steps, .schedule = schedule});
      const Tensor relative = deviations_reached(*sampler) / deviations() - 1;
      errors.push_back(
          {row.name, steps, static_cast<int>(sampler->steps().size()), relative.square().mean().sqrt().item<double>()});
    }
  }
  return errors;
}

}  // namespace easel::cli
