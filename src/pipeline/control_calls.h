// What the ControlNets of a pack add to the U-Net's calls.
#pragma once

#include "pipeline/conditioning.h"

namespace easel {

struct AppliedControl {
  const ControlNet& network;
  Tensor hint;  // [B, C, h, w], of each picture
  double strength;
  double start, end;  // the share of the calls that it is at work in
  bool guess;         // conditional rows alone
};

// `pictures`: the control pictures of each request. Loads the networks.
std::vector<AppliedControl> apply_controls(const Pack& pack, const std::vector<const std::vector<Image>*>& pictures,
                                           StageSet& nets, Timings& time);

// One network call of many.
struct NetworkCall {
  int number, of;
};

// The sum of what they add to a call of the U-Net with `x`, [(1 + K)·B or K·B, L, h, w] for B pictures of K conditions;
// nullopt where none is at work. diffusers' rules: a control is at work in call i of n where start ≤ i/n and (i + 1)/n
// ≤ end (controlnet_keep).
std::optional<ControlResiduals> residuals(const std::vector<AppliedControl>& controls, const NetworkCall& call,
                                          const Tensor& x, double t, const Conditioning& told, int64_t pictures,
                                          int64_t conditions);

}  // namespace easel
