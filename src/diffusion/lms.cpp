// Linear multistep (Adams-Bashforth) of order 4 on the ODE of Karras et al. 2022, the derivative interpolated over the
// last sigmas, however spaced: sample_lms of k-diffusion (Crowson 2022). Liu et al. 2022 use the method with even
// steps.
#include <deque>

#include "diffusion/lagrange.h"
#include "diffusion/samplers.h"

namespace easel::diffusion {
namespace {

Tensor lms(Run& run, Tensor x) {
  constexpr std::size_t kOrder = 4;
  std::deque<Tensor> derivatives;  // newest first
  for (std::size_t i = run.begin; i < run.end; ++i) {
    derivatives.push_front(run.predict(x, i).eps);  // dx/dσ
    if (derivatives.size() > kOrder) derivatives.pop_back();
    // A run that begins in the middle has a short history. diffusers takes the weights of a full one all the same.
    const double to = run.legs[i].to.sigma;
    std::vector<double> nodes;  // σ − σ_to
    for (std::size_t j = 0; j < derivatives.size(); ++j) nodes.push_back(run.legs[i - j].from.sigma - to);
    const std::vector<double> weights = adams_weights(0, nodes[0], nodes);
    for (std::size_t j = 0; j < derivatives.size(); ++j) x = x - weights[j] * derivatives[j];
    run.report(x);
  }
  return x;
}

}  // namespace

std::unique_ptr<Sampler> make_lms(const SchedulerConfig& config, const SamplerOptions& options) {
  const ScheduleSpec spec = spec_for(config, options, "LMSDiscreteScheduler", Schedules::kAny);
  return std::make_unique<BoundSampler>(spec, sigma_plan(spec, steps_of(spec, options)), lms, 0, options);
}

}  // namespace easel::diffusion
