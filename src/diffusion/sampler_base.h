// What the samplers share. A sampler is a Method, one function of (run, x) that reads like its paper, and a Plan, the
// legs it walks; BoundSampler joins the two.
#pragma once

#include "diffusion/sigma_schedule.h"

namespace easel::diffusion {

using OnStep = std::function<void(int, const Tensor&)>;

// One step of a run. The network is called at `from`, sometimes once more on the way.
struct Leg {
  Step from, to;
};

struct Plan {
  std::vector<Leg> legs;
  double init_scale = 1.0;
  int steps = 0;  // as --steps counts them; PNDM has more legs than that
};

// λ = log(α/σ), infinite where σ = 0.
double lambda(const Step& step);

// One run of a sampler: the legs begin … end − 1 of a plan, and what a method needs on its way.
class Run {
 public:
  const ScheduleSpec& spec;
  const std::vector<Leg>& legs;
  const std::size_t begin, end;
  const double eta;

  // The network's prediction at the start of a leg, or at a point of it. x0 clipped or thresholded as the class says;
  // eps follows x0.
  Prediction predict(const Tensor& x, std::size_t leg) { return predict_at(x, legs[leg].from, leg); }
  Prediction predict_at(const Tensor& x, const Step& at, std::size_t leg);
  // The same, unclipped.
  Prediction predict_unclipped(const Tensor& x, std::size_t leg);
  // Noise in x's dtype and on its device.
  Tensor draw(const Tensor& x) const { return noise_(x.sizes()).to(x.options()); }
  // x after the update that follows the last network call.
  void report(const Tensor& x) const;
  // The fractional timestep whose training sigma (alpha = 1) is `sigma`.
  double t_at(double sigma) const { return sigma_to_t(sigma, training_); }

  Run(const ScheduleSpec& spec, const std::vector<Leg>& legs, std::size_t begin, std::size_t end, double eta,
      const Denoiser& denoise, const NoiseSource& noise, const OnStep& on_step)
      : spec(spec),
        legs(legs),
        begin(begin),
        end(end),
        eta(eta),
        denoise_(denoise),
        noise_(noise),
        on_step_(on_step),
        training_(training_sigmas(spec)) {}

 private:
  const Denoiser& denoise_;
  const NoiseSource& noise_;
  const OnStep& on_step_;
  std::vector<double> training_;
  int calls_ = 0;
};

using Method = std::function<Tensor(Run& run, Tensor x)>;

class BoundSampler final : public Sampler {
 public:
  BoundSampler(ScheduleSpec spec, Plan plan, Method method, double eta, const SamplerOptions& options);

  double init_scale() const override { return plan_.init_scale; }
  PredictionType prediction() const override { return spec_.prediction; }
  std::vector<Step> steps() const override;
  Tensor noised(const Tensor& x0, const Tensor& noise) const override;
  Tensor sample(const Denoiser& denoise, Tensor x, const NoiseSource& noise, const OnStep& on_step) const override;

 private:
  ScheduleSpec spec_;
  Plan plan_;
  Method method_;
  double eta_;
  std::size_t begin_ = 0, end_;
};

// ---- how a maker goes from (config, options) to a sampler ---------------------------------------------------------

// The file over the class's defaults, the sampler's own arguments over both, and the request's prediction type and
// schedule over all. Error(kUsage) for a number of steps the model has not and for a schedule outside `allowed`.
ScheduleSpec spec_for(const SchedulerConfig& config, const SamplerOptions& options, const char* class_name,
                      Schedules allowed, const json& arguments = json::object());
// The request's eta, else the default. Error(kUsage) outside [0, 1].
double eta_for(const SamplerOptions& options, double default_eta);

// k-diffusion's form, alpha = 1, x from sigma to sigma.
Plan sigma_plan(const ScheduleSpec& spec, int n, const SigmaHabits& habits = {});
// The variance-preserving form of the same.
Plan solver_plan(const ScheduleSpec& spec, int n, const SigmaHabits& habits);
// Whole timesteps and ᾱ from the table: each leg goes to the next timestep, the last to `final_alpha_bar`.
Plan timestep_plan(const ScheduleSpec& spec, const std::vector<double>& timesteps, double final_alpha_bar);
// The step at whole timestep t. Error(kUsage) outside the model's, Error(kFile) where an eps network knows nothing.
Step step_at(const ScheduleSpec& spec, const std::vector<double>& alpha_bar, double t);
// The number of steps: that of the explicit lists if there are any.
int steps_of(const ScheduleSpec& spec, const SamplerOptions& options);

// x0 clipped or dynamically thresholded (Saharia et al. 2022, §2.3) if the spec says so, per picture.
Tensor clipped(const ScheduleSpec& spec, const Tensor& x0);

}  // namespace easel::diffusion
