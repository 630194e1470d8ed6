// The makers that sampler_table.cpp lists, one file each.
#pragma once

#include "diffusion/sampler_base.h"

namespace easel::diffusion {

std::unique_ptr<Sampler> make_ddpm(const SchedulerConfig& config, const SamplerOptions& options);
std::unique_ptr<Sampler> make_ddim(const SchedulerConfig& config, const SamplerOptions& options);
std::unique_ptr<Sampler> make_pndm(const SchedulerConfig& config, const SamplerOptions& options);
std::unique_ptr<Sampler> make_euler(const SchedulerConfig& config, const SamplerOptions& options);
std::unique_ptr<Sampler> make_euler_ancestral(const SchedulerConfig& config, const SamplerOptions& options);

}  // namespace easel::diffusion
