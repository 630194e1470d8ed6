// Every sampler, one row each; help texts, requests and tests read this.
#include "diffusion/samplers.h"

namespace easel {

using namespace diffusion;

// clang-format off
// name, aliases, reference, paper,
// order, calls a step, schedules, has eta, its default, stochastic, remark, maker
const std::vector<SamplerRow>& sampler_table() {
  constexpr auto kAny = Schedules::kAny, kTimesteps = Schedules::kTimesteps;
  constexpr const char* kKarras = "Karras et al. 2022, arXiv:2206.00364";
  constexpr const char* kCrowson = "k-diffusion, Crowson 2022";
  constexpr const char* kDpmpp = "Lu et al. 2022, arXiv:2211.01095";
  constexpr const char* kUnipc = "Zhao et al. 2023, arXiv:2302.04867";
  constexpr const char* kDeis = "Zhang & Chen 2023, arXiv:2204.13902";
  static const std::vector<SamplerRow> rows = {
      {"ddpm", {"DDPMScheduler"}, "DDPMScheduler", "Ho et al. 2020, arXiv:2006.11239",
       1, 1, kTimesteps, false, 0, true, "fixed_large_log, NaN in diffusers, is sqrt(beta)", make_ddpm},
      {"ddim", {"DDIMScheduler"}, "DDIMScheduler", "Song et al. 2021, arXiv:2010.02502",
       1, 1, kTimesteps, true, 0, false, "", make_ddim},
      {"pndm", {"PNDMScheduler", "plms"}, "PNDMScheduler", "Liu et al. 2022, arXiv:2202.09778",
       2, 1, Schedules::kSpacings, false, 0, false,
       "x0 networks, refused by diffusers, run on eps; a part of a run does without Runge-Kutta", make_pndm},
      {"euler", {"EulerDiscreteScheduler"}, "EulerDiscreteScheduler", kKarras,
       1, 1, kAny, false, 0, false, "", make_euler},
      {"euler_a", {"EulerAncestralDiscreteScheduler", "euler_ancestral"}, "EulerAncestralDiscreteScheduler",
       "k-diffusion, Crowson 2022; Song et al. 2021, arXiv:2011.13456",
       1, 1, kAny, true, 1, true, "x0 networks, refused by diffusers, run as with euler", make_euler_ancestral},
      {"heun", {"HeunDiscreteScheduler"}, "HeunDiscreteScheduler", kKarras,
       2, 2, kAny, false, 0, false, "", make_heun},
      {"dpm2", {"KDPM2DiscreteScheduler", "dpm_2", "kdpm_2"}, "KDPM2DiscreteScheduler", kCrowson,
       2, 2, kAny, false, 0, false, "x0 networks, refused by diffusers, run as with euler", make_dpm2},
      {"dpm2_a", {"KDPM2AncestralDiscreteScheduler", "dpm_2_ancestral", "kdpm_2_a"},
       "KDPM2AncestralDiscreteScheduler", kCrowson,
       2, 2, kAny, true, 1, true, "x0 networks, refused by diffusers, run as with euler", make_dpm2_ancestral},
      {"lms", {"LMSDiscreteScheduler"}, "LMSDiscreteScheduler", kCrowson,
       4, 1, kAny, false, 0, false,
       "a part of a run begins at order 1; diffusers takes the weights of a history it has not", make_lms},
      {"dpm++2m", {"DPMSolverMultistepScheduler", "dpmpp_2m"}, "DPMSolverMultistepScheduler", kDpmpp,
       2, 1, kAny, false, 0, false, "solver_order 2", make_dpmpp_2m},
      {"dpm++3m", {"dpmpp_3m"}, "DPMSolverMultistepScheduler", kDpmpp,
       2, 1, kAny, false, 0, false,
       "solver_order 3; with its authors' third-order weight, half of what order 3 needs", make_dpmpp_3m},
      {"dpm++2m_sde", {"dpmpp_2m_sde", "dpmpp_2m_sde_gpu"}, "DPMSolverMultistepScheduler", kDpmpp,
       2, 1, kAny, true, 1, true,
       "sde-dpmsolver++, solver_order 2; one draw a step where k-diffusion has a Brownian tree", make_dpmpp_2m_sde},
      {"dpm++3m_sde", {"dpmpp_3m_sde", "dpmpp_3m_sde_gpu"}, "DPMSolverMultistepScheduler", kCrowson,
       2, 1, kAny, true, 1, true,
       "sde-dpmsolver++, solver_order 3, with k-diffusion's third-order weight; diffusers' is off by 1",
       make_dpmpp_3m_sde},
      {"dpm++2s", {"DPMSolverSinglestepScheduler", "dpmpp_2s"}, "DPMSolverSinglestepScheduler", kDpmpp,
       2, 1, kAny, false, 0, false, "two steps of the schedule are one of second order", make_dpmpp_2s},
      {"dpm++2s_a", {"dpmpp_2s_a", "dpmpp_2s_ancestral"}, "k-diffusion", kDpmpp,
       2, 2, kAny, true, 1, true, "", make_dpmpp_2s_ancestral},
      {"dpm++sde", {"DPMSolverSDEScheduler", "dpmpp_sde", "dpmpp_sde_gpu"}, "DPMSolverSDEScheduler", kDpmpp,
       2, 2, kAny, true, 1, true,
       "one draw a call where diffusers has a Brownian tree seeded from the global generator", make_dpmpp_sde},
      {"unipc", {"UniPCMultistepScheduler", "uni_pc", "uni_pc_bh2"}, "UniPCMultistepScheduler", kUnipc,
       3, 1, kAny, false, 0, false, "", make_unipc},
      {"unipc_bh1", {"uni_pc_bh1"}, "UniPCMultistepScheduler", kUnipc,
       3, 1, kAny, false, 0, false,
       "the last step to sigma 0, NaN in diffusers, is first order, as with bh2", make_unipc_bh1},
      {"deis", {"DEISMultistepScheduler"}, "DEISMultistepScheduler", kDeis,
       2, 1, kAny, false, 0, false, "", make_deis},
      {"ipndm", {"IPNDMScheduler"}, "ComfyUI", kDeis,
       2, 1, kAny, false, 0, false,
       "diffusers' IPNDMScheduler has a schedule of its own, for networks told a continuous time", make_ipndm},
      {"lcm", {"LCMScheduler"}, "LCMScheduler", "Luo et al. 2023, arXiv:2310.04378",
       1, 1, kTimesteps, false, 0, true, "for distilled models", make_lcm},
      {"tcd", {"TCDScheduler"}, "TCDScheduler", "Zheng et al. 2024, arXiv:2402.19159",
       1, 1, kTimesteps, true, 0, false,
       "for distilled models; eta 0 as diffusers' pipelines pass, 0.3 in its class; never clips, as there", make_tcd},
      {"sa_solver", {"SASolverScheduler"}, "SASolverScheduler", "Xue et al. 2023, arXiv:2309.05019",
       2, 1, kAny, false, 0, true, "tau 1 for timesteps 200 to 800", make_sa_solver},
      {"restart", {"restart_sampler"}, "A1111", "Xu et al. 2023, arXiv:2306.14878",
       2, 2, Schedules::kKarras, false, 0, true, "restarts from 20 steps on, heun below", make_restart},
  };
  return rows;
}
// clang-format on

}  // namespace easel
