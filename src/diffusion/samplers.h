// The makers that sampler_table.cpp lists, one file each.
#pragma once

#include "diffusion/sampler_base.h"

namespace easel::diffusion {

using Maker = std::unique_ptr<Sampler>(const SchedulerConfig& config, const SamplerOptions& options);

Maker make_ddpm, make_ddim, make_pndm, make_lcm, make_tcd;
Maker make_euler, make_euler_ancestral, make_heun, make_dpm2, make_dpm2_ancestral, make_lms, make_ipndm, make_restart;
Maker make_dpmpp_2m, make_dpmpp_3m, make_dpmpp_2m_sde, make_dpmpp_3m_sde, make_dpmpp_2s;
Maker make_dpmpp_2s_ancestral, make_dpmpp_sde;
Maker make_unipc, make_unipc_bh1, make_deis, make_sa_solver;

}  // namespace easel::diffusion
