// One network's part of the way from noise to latent, for one picture or several at once.
#pragma once

#include "pipeline/beginning.h"
#include "pipeline/conditioning.h"
#include "pipeline/control_calls.h"
#include "pipeline/trajectory.h"

namespace easel {

struct Stretch {
  StageSet& nets;
  std::unique_ptr<Sampler> sampler;
  TextSchedule texts;
  std::vector<AppliedControl> controls = {};
  Step goal = {.t = 0, .alpha = 1, .sigma = 0};  // where its last step leads: the picture, or the next one's first step
};

// What all stretches of a pack share.
struct Journey {
  std::vector<RandomStream>& streams;  // one a picture
  TrajectoryKeeper& keeper;
  std::function<void()> on_call;  // after every network call
  Timings& time;
};

// x, [B, L, h, w] float32 in the sampler's own scaling, moved along the sampler's steps. It computes in float32
// whatever the network's dtype. Throws Interrupted between network calls.
Tensor travel(const Pack& pack, const Stretch& stretch, const Beginning& begin, Tensor x, Journey& journey);

}  // namespace easel
