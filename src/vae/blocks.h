// Parts that encoder and decoder share.
#pragma once

#include "easel/vae.h"

namespace easel {

// Single-head self-attention over the pixels of a picture; diffusers' Attention with residual_connection and a
// GroupNorm.
struct SpatialAttention {
  GroupNorm group_norm;
  Linear to_q, to_k, to_v, to_out;
  SpatialAttention(const Weights& w, const VaeSpec& s, int64_t channels);
  Tensor operator()(const Tensor& x) const;  // x: [B, C, H, W]
};

// UNetMidBlock2D.
struct VaeMidBlock {
  ResnetBlock resnet_0;
  std::optional<SpatialAttention> attention;
  ResnetBlock resnet_1;
  VaeMidBlock(const Weights& w, const VaeSpec& s, int64_t channels);
  Tensor operator()(const Tensor& x) const;
};

constexpr double kVaeNormEps = 1e-6;

ResnetSpec vae_resnet(const VaeSpec& s, int64_t in, int64_t out);

}  // namespace easel
