// The three kinds of blocks of the U-Net: CrossAttnDownBlock2D / DownBlock2D, UNetMidBlock2DCrossAttn,
// CrossAttnUpBlock2D / UpBlock2D of diffusers; attentions are empty in those without.
#pragma once

#include "easel/unet.h"
#include "unet/transformer.h"

namespace easel {

struct DownBlock {
  std::vector<ResnetBlock> resnets;
  std::vector<Transformer2D> attentions;
  std::optional<Downsample> downsampler;  // all but the coarsest level
  DownBlock(const Weights& w, const UNetSpec& s, std::size_t level);
  // Appends to `skips` what the way up will concatenate: after each layer, and after the downsampler.
  Tensor operator()(Tensor x, const Tensor& time, const Tensor& context, std::vector<Tensor>& skips) const;
};

struct MidBlock {
  ResnetBlock resnet_0;
  Transformer2D attention;
  ResnetBlock resnet_1;
  MidBlock(const Weights& w, const UNetSpec& s);
  Tensor operator()(const Tensor& x, const Tensor& time, const Tensor& context) const;
};

struct UpBlock {
  std::vector<ResnetBlock> resnets;
  std::vector<Transformer2D> attentions;
  std::optional<Upsample> upsampler;  // all but the finest level
  UpBlock(const Weights& w, const UNetSpec& s, std::size_t level);
  // Takes its skips from the end of `skips` and upsamples to the size of the next one.
  Tensor operator()(Tensor x, const Tensor& time, const Tensor& context, std::vector<Tensor>& skips) const;
};

}  // namespace easel
