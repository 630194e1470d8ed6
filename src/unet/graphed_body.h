// A U-Net's call as a function of tensors alone, which a CUDA graph can replay.
#pragma once

#include "unet/blocks.h"

namespace easel {

// body(x, time, text, control, deep). text: with projections.
Tensor graphed(const UNetBody& body, StepGraphs& graphs, const Tensor& x, const Tensor& time, const TextContext& text,
               const ControlResiduals* control, DeepFeature* deep);

}  // namespace easel
