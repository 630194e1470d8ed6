#include <c10/core/InferenceMode.h>

#include "pipeline/beginning.h"

namespace easel {

namespace {

void check_sides(const Image& picture, const Checkpoint& c) {
  const int64_t factor = c.vae.factor();
  if (picture.width % factor == 0 && picture.height % factor == 0) return;
  throw Error(ErrorKind::kUsage, "the picture is " + std::to_string(picture.width) + "x" +
                                     std::to_string(picture.height) + ": this model's VAE takes multiples of " +
                                     std::to_string(factor));
}

// The posterior's mean: the strip is to show the schedule's noise alone.
Tensor latent_of(const Image& picture, const Checkpoint& c, const Precision& p) {
  if (c.pixel) throw Error(ErrorKind::kUsage, "--latent: a " + c.family->title + " has no latents");
  check_sides(picture, c);
  const Weights w(open_weights(c, Part::kVae, p.vae != at::kFloat), p.device, p.vae);
  const VaeEncoder encoder(w, c.vae);
  const LatentPosterior q = encoder(pixels_of(picture).to(p.device).to(p.vae));
  return encoder.sample(q, at::zeros_like(q.mean)).to(at::kFloat).to(at::kCPU);
}

}  // namespace

std::vector<LabelledImage> forward_process(const Checkpoint& c, const Precision& p, const Image& picture,
                                           const ForwardOptions& options) {
  const c10::InferenceMode guard;
  const Tensor x0 = options.latent ? latent_of(picture, c, p) : pixels_of(picture);
  RandomStream stream(options.seed);
  const Tensor noise = stream.randn(x0.sizes());
  StageSet nets(c, p);
  double seconds = 0;
  std::vector<LabelledImage> strip;
  for (const int64_t t : options.timesteps) {
    check_interrupted();
    Tensor x = add_noise(c.scheduler, x0, noise, t);
    if (options.latent) x = nets.vae_decoder(&seconds)(x.to(p.device).to(p.vae)).to(at::kFloat).to(at::kCPU);
    strip.push_back({to_image(x[0]), "t " + std::to_string(t)});
  }
  return strip;
}

}  // namespace easel
