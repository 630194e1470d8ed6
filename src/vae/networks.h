// The two kinds of autoencoder behind VaeDecoder and VaeEncoder.
#pragma once

#include "easel/vae.h"

namespace easel {

// Latents as the autoencoder knows them (unscaled) → pictures. Shapes as VaeDecoder's.
class VaeDecoderNetwork {
 public:
  virtual ~VaeDecoderNetwork() = default;
  virtual Tensor operator()(const Tensor& latent) const = 0;
  virtual Tensor in_strips(const Tensor& latent, int64_t strip_bytes) const = 0;
};

class VaeEncoderNetwork {
 public:
  virtual ~VaeEncoderNetwork() = default;
  virtual LatentPosterior operator()(const Tensor& picture) const = 0;
  virtual LatentPosterior in_strips(const Tensor& picture, int64_t strip_bytes) const = 0;
};

// AutoencoderTiny's; spec.tiny is set.
std::unique_ptr<VaeDecoderNetwork> tiny_decoder(const Weights& root, const VaeSpec& spec);
std::unique_ptr<VaeEncoderNetwork> tiny_encoder(const Weights& root, const VaeSpec& spec);

}  // namespace easel
