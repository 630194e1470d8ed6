#pragma once

#include "diffusion/schedule.h"

namespace easel::diffusion {

bool walks(Schedules allowed, const std::string& schedule);

// Whether the request leaves the noise levels to the checkpoint and the sampler: no schedule, or "model", and no list.
bool leaves_schedule(const SamplerOptions& options);

// The request's schedule over the file's. Throws Error(kUsage) for what `allowed` excludes, for lists that do not fall
// and for a number of steps the model has not.
void set_schedule(ScheduleSpec& spec, const SamplerOptions& options, Schedules allowed);

}  // namespace easel::diffusion
