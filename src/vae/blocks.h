// Parts that encoder and decoder share.
#pragma once

#include "easel/vae.h"

namespace easel {

// UNetMidBlock2D.
struct VaeMidBlock {
  ResnetBlock resnet_0;
  std::optional<SpatialAttention> attention;
  ResnetBlock resnet_1;
  VaeMidBlock(const Weights& w, const VaeSpec& s, int64_t channels);
  Tensor operator()(Tensor x) const;
};

constexpr double kVaeNormEps = 1e-6;

ResnetSpec vae_resnet(const VaeSpec& s, int64_t in, int64_t out);

}  // namespace easel
