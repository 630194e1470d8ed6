// How far samplers end from a target whose ideal network is known: what `easel samplers --errors` prints.
#pragma once

#include "easel/diffusion.h"

namespace easel::cli {

struct SamplerError {
  std::string sampler;
  int steps;
  int calls;     // of the network
  double error;  // relative, of the deviation that is reached
};

// Every sampler but those for distilled models (lcm, tcd), on Stable Diffusion 1.5's noise: karras where the sampler
// can walk it, the timesteps of the model's own file where not.
std::vector<SamplerError> sampler_errors();

}  // namespace easel::cli
