// Where the way from noise to picture begins: at noise alone, or at a picture and noise.
#pragma once

#include "pipeline/picture_input.h"
#include "pipeline/stages.h"

namespace easel {

// The picture, the mask and the canvas that a resolved request names; nullopt when it begins with noise alone. Throws
// Error(kFile) for what cannot be read, Error(kUsage) as prepare_picture().
std::optional<PictureInput> read_picture_input(const Request& resolved);

// "fit", "fill" or "stretch".
ResizeMode resize_mode(const std::string& word);

// [1, 3, H, W] float32 in [0, 1].
Tensor values_of(const Image& image);
// The same in [−1, 1], as diffusers' VaeImageProcessor makes it.
Tensor pixels_of(const Image& image);

// What a mask keeps of the picture, for U-Nets that see no mask.
struct KeptPart {
  Tensor mask;           // [B, 1, h, w]: 1 is repainted, 0 kept
  Tensor latent, noise;  // [B, L, h, w]

  // x with the kept part at the noise level of `step` (x = alpha·x0 + sigma·eps).
  void put_back(const Tensor& x, const Step& step) const;
};

struct Beginning {
  Tensor x;       // [B, L, h, w] at the sampler's first step, in its own scaling
  Tensor beside;  // [B, 1 + L, h, w] for inpainting U-Nets: the mask and the latent of what it keeps; else undefined
  std::optional<KeptPart> kept;
};

struct BeginningOptions {
  double strength = 1;
  bool strips = false;  // encode in bounded memory
};

// Everything in float32 on the networks' device. Noise is drawn in the order of diffusers' pipelines: the picture's
// posterior (unless repainting starts from pure noise in an inpainting U-Net), the noise, the masked picture's
// posterior.
Beginning begin_with_noise(const StageSet& nets, const Sampler& sampler, at::IntArrayRef latent_shape,
                           RandomStream& stream);
Beginning begin_with_picture(const PictureInput& input, StageSet& nets, const Sampler& sampler, RandomStream& stream,
                             const BeginningOptions& options, Timings& time);

// Those of pictures that go through the networks together.
Beginning joined(const std::vector<Beginning>& all);

}  // namespace easel
