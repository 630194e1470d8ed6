#include "pipeline/beginning.h"

namespace easel {

ResizeMode resize_mode(const std::string& word) {
  return word == "fit" ? ResizeMode::kFit : word == "fill" ? ResizeMode::kFill : ResizeMode::kStretch;
}

namespace {

PictureOptions picture_options(const Request& r) {
  PictureOptions options;
  options.width = static_cast<int>(*r.width);
  options.height = static_cast<int>(*r.height);
  if (r.resize) options.resize = resize_mode(*r.resize);
  options.invert_mask = r.invert_mask.value_or(false);
  options.mask_blur = r.mask_blur.value_or(0);
  if (r.inpaint_full_res.value_or(false)) options.crop_padding = static_cast<int>(*r.inpaint_padding);
  options.outpaint = r.outpaint;
  options.paste_back = !r.no_paste_back.value_or(false);
  options.seed = *r.seed;
  return options;
}

}  // namespace

std::optional<PictureInput> read_picture_input(const Request& r) {
  if (!r.init_img) return std::nullopt;
  std::optional<Mask> mask;
  if (r.mask) mask = grey(read_picture(*r.mask));
  return prepare_picture(read_picture(*r.init_img), mask, picture_options(r));
}

Tensor values_of(const Image& image) {
  const Tensor bytes = at::from_blob(const_cast<uint8_t*>(image.pixels.data()), {image.height, image.width, 3},
                                     at::TensorOptions().dtype(at::kByte));
  return bytes.to(at::kFloat).div(255.0).permute({2, 0, 1}).unsqueeze(0);
}

Tensor pixels_of(const Image& image) { return values_of(image).mul(2.0).sub(1.0); }

void KeptPart::put_back(const Tensor& x, const Step& step) const {
  const Tensor noised = step.alpha * latent + step.sigma * noise;
  x.copy_((1 - mask) * noised + mask * x);
}

namespace {

// [1, 1, H, W], 1 where the mask is 128 and more, else 0: diffusers' do_binarize.
Tensor binary(const Mask& mask) {
  const Tensor bytes = at::from_blob(const_cast<uint8_t*>(mask.pixels.data()), {1, 1, mask.height, mask.width},
                                     at::TensorOptions().dtype(at::kByte));
  return bytes.ge(128).to(at::kFloat);
}

// Pictures → latents of one picture's stream.
class Encoding {
 public:
  Encoding(StageSet& nets, RandomStream& stream, bool strips, Timings& time)
      : nets_(nets), stream_(stream), strips_(strips), time_(time) {}

  // A sample of the posterior, [1, L, h, w] float32 as the U-Net knows it. Nothing is drawn where there is none.
  Tensor operator()(const Tensor& pixels) {
    check_interrupted();
    const VaeEncoder& encoder = nets_.vae_encoder(&time_.load);
    const double start = now_seconds();
    const Tensor in = pixels.to(nets_.precision().device).to(nets_.precision().vae);
    const LatentPosterior q = strips_ ? encoder.in_strips(in) : encoder(in);
    const bool is_drawn = q.std.defined();
    const LatentPosterior precise{q.mean.to(at::kFloat), is_drawn ? q.std.to(at::kFloat) : Tensor()};
    const Tensor latent = encoder.sample(precise, is_drawn ? stream_.randn(q.mean.sizes()) : Tensor());
    time_.encode += now_seconds() - start;
    return latent;
  }

 private:
  StageSet& nets_;
  RandomStream& stream_;
  const bool strips_;
  Timings& time_;
};

}  // namespace

Beginning begin_with_noise(const StageSet& nets, const Sampler& sampler, at::IntArrayRef latent_shape,
                           RandomStream& stream) {
  const Tensor noise = stream.randn(latent_shape);
  return {(noise * sampler.init_scale()).to(nets.precision().device), {}, {}};
}

Beginning begin_with_picture(const PictureInput& input, StageSet& nets, const Sampler& sampler, RandomStream& stream,
                             const BeginningOptions& options, Timings& time) {
  const Checkpoint& c = nets.checkpoint();
  const at::Device device = nets.precision().device;
  Encoding encode(nets, stream, options.strips, time);
  const Tensor pixels = pixels_of(input.picture);
  const int64_t factor = c.vae.factor();
  const std::vector<int64_t> shape = {1, c.vae.latent_channels, pixels.size(2) / factor, pixels.size(3) / factor};

  // Repainting at full strength starts from pure noise; a picture alone is still there at the first noise level.
  const bool pure_noise = input.mask && options.strength == 1;
  Tensor latent;
  if (!pure_noise || !c.is_inpainting()) latent = encode(pixels);
  const Tensor noise = stream.randn(shape).to(device);
  Beginning begin;
  begin.x = pure_noise ? noise * sampler.init_scale() : sampler.noised(latent, noise);
  if (!input.mask) return begin;

  const Tensor mask = binary(*input.mask);
  const Tensor small = at::upsample_nearest2d(mask, {shape[2], shape[3]}).to(device);
  if (c.is_inpainting()) {
    begin.beside = at::cat({small, encode(pixels * (mask < 0.5))}, 1);
  } else {
    begin.kept = KeptPart{small, latent, noise};
    // diffusers encodes the masked picture for these U-Nets too, and does not use it.
    if (!c.vae.tiny) stream.randn(shape);
  }
  return begin;
}

Beginning joined(const std::vector<Beginning>& all) {
  if (all.size() == 1) return all.front();
  const auto cat = [&](const auto& of) {
    std::vector<Tensor> rows;
    for (const Beginning& one : all) rows.push_back(of(one));
    return at::cat(rows);
  };
  Beginning out;
  out.x = cat([](const Beginning& b) { return b.x; });
  if (all.front().beside.defined()) out.beside = cat([](const Beginning& b) { return b.beside; });
  if (all.front().kept)
    out.kept = KeptPart{cat([](const Beginning& b) { return b.kept->mask; }),
                        cat([](const Beginning& b) { return b.kept->latent; }),
                        cat([](const Beginning& b) { return b.kept->noise; })};
  return out;
}

}  // namespace easel
