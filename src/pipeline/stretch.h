// One network's part of the way from noise to latent.
#pragma once

#include "pipeline/beginning.h"
#include "pipeline/conditioning.h"
#include "pipeline/trajectory.h"

namespace easel {

struct Stretch {
  StageSet& nets;
  std::unique_ptr<Sampler> sampler;
  Conditioning conditioning;
  Step goal = {.t = 0, .alpha = 1, .sigma = 0};  // where its last step leads: the picture, or the next one's first step
};

// What all stretches of a picture share.
struct Journey {
  RandomStream& stream;
  TrajectoryKeeper& keeper;
  std::function<void()> on_call;  // after every network call
  Timings& time;
};

// x, [1, L, h, w] float32 in the sampler's own scaling, moved along the sampler's steps. It computes in float32
// whatever the network's dtype. Throws Interrupted between network calls.
Tensor travel(const Request& resolved, const Stretch& stretch, const Beginning& begin, Tensor x, Journey& journey);

}  // namespace easel
