// What a U-Net and its ControlNets make of the timestep and of what stands beside the text.
#pragma once

#include "easel/unet.h"
#include "unet/blocks.h"
#include "unet/time_embedding.h"

namespace easel {

struct ConditionEmbedding {
  TimestepEmbedding time_embedding;
  std::optional<TimestepEmbedding> add_embedding;
  ConditionEmbedding(const Weights& w, const UNetSpec& s);
  // Of each of S timesteps 1 or B rows, [S or S·B, time_width], after the SiLU that stands in front of every ResNet
  // block's time projection: it is the same for all, so it is applied once. `like`: of the weights' dtype and device.
  Tensor operator()(const UNetSpec& s, const Tensor& like, const std::vector<double>& timesteps,
                    const AddedConditions& added) const;
};

// The blocks of a spec.
BodySpec body_spec(const UNetSpec& s);

// TORCH_CHECKs of a call's arguments.
void check_arguments(const UNetSpec& s, const Tensor& sample, const Tensor& context, const AddedConditions& added);

}  // namespace easel
