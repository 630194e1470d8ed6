#include "diffusion/schedule_spec.h"

namespace easel::diffusion {
namespace {

// The constructors' defaults in diffusers 0.42.1. They differ in what matters: DDPM and DDIM clip unless told not to,
// Euler spaces linearly, PNDM alone starts from ᾱ_0, Heun, DPM2 and LCM have Stable Diffusion's betas.
constexpr const char* kClassDefaults = R"json({
  "DDPMScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "variance_type": "fixed_small", "clip_sample": true, "prediction_type": "epsilon",
    "thresholding": false, "dynamic_thresholding_ratio": 0.995, "clip_sample_range": 1.0, "sample_max_value": 1.0,
    "timestep_spacing": "leading", "steps_offset": 0, "rescale_betas_zero_snr": false},
  "DDIMScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "clip_sample": true, "set_alpha_to_one": true, "steps_offset": 0,
    "prediction_type": "epsilon", "thresholding": false, "dynamic_thresholding_ratio": 0.995,
    "clip_sample_range": 1.0, "sample_max_value": 1.0, "timestep_spacing": "leading",
    "rescale_betas_zero_snr": false},
  "PNDMScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "skip_prk_steps": false, "set_alpha_to_one": false, "prediction_type": "epsilon",
    "timestep_spacing": "leading", "steps_offset": 0},
  "EulerDiscreteScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "prediction_type": "epsilon", "interpolation_type": "linear",
    "use_karras_sigmas": false, "use_exponential_sigmas": false, "use_beta_sigmas": false, "sigma_min": null,
    "sigma_max": null, "timestep_spacing": "linspace", "timestep_type": "discrete", "steps_offset": 0,
    "rescale_betas_zero_snr": false, "final_sigmas_type": "zero"},
  "EulerAncestralDiscreteScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0,
    "rescale_betas_zero_snr": false},
  "HeunDiscreteScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear",
    "trained_betas": null, "prediction_type": "epsilon", "use_karras_sigmas": false,
    "use_exponential_sigmas": false, "use_beta_sigmas": false, "clip_sample": false, "clip_sample_range": 1.0,
    "timestep_spacing": "linspace", "steps_offset": 0},
  "KDPM2DiscreteScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear",
    "trained_betas": null, "use_karras_sigmas": false, "use_exponential_sigmas": false, "use_beta_sigmas": false,
    "prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0},
  "KDPM2AncestralDiscreteScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear",
    "trained_betas": null, "use_karras_sigmas": false, "use_exponential_sigmas": false, "use_beta_sigmas": false,
    "prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0},
  "LMSDiscreteScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "use_karras_sigmas": false, "use_exponential_sigmas": false, "use_beta_sigmas": false,
    "prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0},
  "DPMSolverSDEScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear",
    "trained_betas": null, "prediction_type": "epsilon", "use_karras_sigmas": false,
    "use_exponential_sigmas": false, "use_beta_sigmas": false, "noise_sampler_seed": null,
    "timestep_spacing": "linspace", "steps_offset": 0},
  "DPMSolverMultistepScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "solver_order": 2, "prediction_type": "epsilon", "thresholding": false,
    "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint", "lower_order_final": true, "euler_at_final": false, "use_karras_sigmas": false,
    "use_exponential_sigmas": false, "use_beta_sigmas": false, "use_lu_lambdas": false,
    "final_sigmas_type": "zero", "lambda_min_clipped": null, "variance_type": null,
    "timestep_spacing": "linspace", "steps_offset": 0, "rescale_betas_zero_snr": false},
  "DPMSolverSinglestepScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "solver_order": 2, "prediction_type": "epsilon", "thresholding": false,
    "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint", "lower_order_final": false, "use_karras_sigmas": false,
    "use_exponential_sigmas": false, "use_beta_sigmas": false, "final_sigmas_type": "zero",
    "lambda_min_clipped": null, "variance_type": null},
  "UniPCMultistepScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "solver_order": 2, "prediction_type": "epsilon", "thresholding": false,
    "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "predict_x0": true, "solver_type": "bh2",
    "lower_order_final": true, "disable_corrector": [], "solver_p": null, "use_karras_sigmas": false,
    "use_exponential_sigmas": false, "use_beta_sigmas": false, "timestep_spacing": "linspace", "steps_offset": 0,
    "final_sigmas_type": "zero", "rescale_betas_zero_snr": false, "sigma_min": null, "sigma_max": null},
  "DEISMultistepScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "solver_order": 2, "prediction_type": "epsilon", "thresholding": false,
    "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "algorithm_type": "deis",
    "solver_type": "logrho", "lower_order_final": true, "use_karras_sigmas": false,
    "use_exponential_sigmas": false, "use_beta_sigmas": false, "timestep_spacing": "linspace", "steps_offset": 0},
  "SASolverScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": null, "predictor_order": 2, "corrector_order": 2, "prediction_type": "epsilon",
    "tau_func": null, "thresholding": false, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0,
    "algorithm_type": "data_prediction", "lower_order_final": true, "use_karras_sigmas": false,
    "use_exponential_sigmas": false, "use_beta_sigmas": false, "lambda_min_clipped": null,
    "variance_type": null, "timestep_spacing": "linspace", "steps_offset": 0},
  "LCMScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "trained_betas": null, "original_inference_steps": 50, "clip_sample": false, "clip_sample_range": 1.0,
    "set_alpha_to_one": true, "steps_offset": 0, "prediction_type": "epsilon", "thresholding": false,
    "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "timestep_spacing": "leading",
    "timestep_scaling": 10.0, "rescale_betas_zero_snr": false},
  "TCDScheduler": {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "trained_betas": null, "original_inference_steps": 50, "clip_sample": false, "clip_sample_range": 1.0,
    "set_alpha_to_one": true, "steps_offset": 0, "prediction_type": "epsilon", "thresholding": false,
    "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "timestep_spacing": "leading",
    "timestep_scaling": 10.0, "rescale_betas_zero_snr": false}
})json";

}  // namespace

const json& class_defaults(const std::string& class_name) {
  static const json classes = json::parse(kClassDefaults);
  static const json none;
  const auto found = classes.find(class_name);
  return found == classes.end() ? none : *found;
}

}  // namespace easel::diffusion
