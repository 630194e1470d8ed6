#include <algorithm>
#include <array>

#include "easel/weights.h"

namespace easel {

bool is_known_extra(const std::string& name) {
  // LatentDiffusion.register_schedule (CompVis), k-diffusion's denoiser; the last four mark how a model was trained.
  static const std::set<std::string> kBuffers = {"alphas_cumprod",
                                                 "alphas_cumprod_prev",
                                                 "betas",
                                                 "denoiser.log_sigmas",
                                                 "denoiser.sigmas",
                                                 "log_one_minus_alphas_cumprod",
                                                 "logvar",
                                                 "lvlb_weights",
                                                 "posterior_log_variance_clipped",
                                                 "posterior_mean_coef1",
                                                 "posterior_mean_coef2",
                                                 "posterior_variance",
                                                 "scale_factor",
                                                 "sqrt_alphas_cumprod",
                                                 "sqrt_one_minus_alphas_cumprod",
                                                 "sqrt_recip_alphas_cumprod",
                                                 "sqrt_recipm1_alphas_cumprod",
                                                 "epoch",
                                                 "global_step",
                                                 "v_pred",
                                                 "ztsnr"};
  static constexpr std::array kLeaves = {"position_ids", "logit_scale", "text_projection", "text_projection.weight"};
  // LitEma's averages; LPIPS and discriminator of an autoencoder's training.
  if (kBuffers.contains(name) || name.starts_with("model_ema.") || name.starts_with("loss.")) return true;
  return std::any_of(kLeaves.begin(), kLeaves.end(),
                     [&](const std::string& leaf) { return name == leaf || name.ends_with("." + leaf); });
}

}  // namespace easel
