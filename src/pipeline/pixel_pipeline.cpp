// The way of a pixel-space picture: seed → noise → picture.
#include <c10/core/InferenceMode.h>

#include "pipeline/beginning.h"
#include "pipeline/not_finite.h"
#include "pipeline/pixel_model.h"

namespace easel {

PixelPipeline::PixelPipeline(PixelModel model, Precision precision) : model_(std::move(model)), precision_(precision) {
  // On the meta device shapes are compared and no value is read.
  const Weights w(open_weights(model_, precision_.unet != at::kFloat), at::kMeta, at::kFloat);
  UNet2D(w, model_.unet);
  w.finish("unet", is_known_extra);
}

const UNet2D& PixelPipeline::unet(std::optional<UNet2D>& stage, at::ScalarType dtype, double* seconds) const {
  if (!stage) {
    const double start = now_seconds();
    const Weights w(open_weights(model_, precision_.unet != at::kFloat), precision_.device, dtype);
    UNet2D network(w, model_.unet);
    w.finish("unet", is_known_extra);
    stage.emplace(std::move(network));
    *seconds += now_seconds() - start;
  }
  return *stage;
}

namespace {

// RGB for a model of so many channels: 1 is grey, ITU-R 601's luma.
Tensor channels(const Tensor& rgb, int64_t count) {
  if (count == 3) return rgb;
  return (rgb * at::tensor({0.299, 0.587, 0.114}).to(at::kFloat).view({1, 3, 1, 1})).sum(1, /*keepdim=*/true);
}

}  // namespace

// [1, C, H, W] float32; the sampler computes in float32 whatever the network's dtype.
Tensor PixelPipeline::sample(const Request& r, const UNet2D& unet, at::ScalarType dtype, const OnProgress& on_progress,
                             TrajectoryKeeper& keeper) const {
  const std::unique_ptr<Sampler> sampler = make_sampler(r, model_);
  const int total = static_cast<int>(sampler->steps().size());
  const Network network = [&](const Tensor& in, double t) {
    check_interrupted();
    return unet(in.to(dtype), t).to(at::kFloat);
  };
  RandomStream stream(*r.seed);
  const Tensor noise = stream.randn({1, model_.unet.in_channels, *r.height, *r.width});
  const std::optional<PictureInput> input = read_picture_input(r);
  const Tensor x = input ? sampler->noised(channels(pixels_of(input->picture), model_.unet.in_channels), noise)
                         : noise * sampler->init_scale();
  keeper.begin(total);
  return sampler->sample(
      keeper.watch(make_denoiser(network, sampler->prediction())), x.to(precision_.device),
      [&](at::IntArrayRef shape) { return stream.randn(shape); },
      [&](int done, const Tensor&) {
        if (on_progress) on_progress(done + 1, total);
      });
}

Picture PixelPipeline::generate(const Request& r, const OnProgress& on_progress, Trajectory* trajectory) {
  const c10::InferenceMode guard;
  Picture picture;
  picture.precision = precision_;
  TrajectoryKeeper keeper(trajectory);
  const auto draw = [&](std::optional<UNet2D>& stage) {
    const UNet2D& network = unet(stage, picture.precision.unet, &picture.timings.load);
    const double start = now_seconds();
    const Tensor x = sample(r, network, picture.precision.unet, on_progress, keeper);
    picture.timings.sample += now_seconds() - start;
    return x;
  };
  Tensor x = draw(unet_);
  if (!is_finite(x) && picture.precision.unet != at::kFloat) {
    warn_of_retry("the U-Net", picture.precision.unet);
    picture.precision.unet = at::kFloat;
    x = draw(float32_);
  }
  if (!is_finite(x)) throw not_finite("the U-Net");
  picture.latent = x.to(at::kCPU);
  const auto rgb = [](const Tensor& pixels) { return pixels[0].to(at::kCPU).expand({3, -1, -1}); };
  picture.image = to_image(rgb(picture.latent));
  keeper.finish(rgb);
  return picture;
}

}  // namespace easel
