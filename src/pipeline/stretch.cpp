#include "pipeline/stretch.h"

namespace easel {

namespace {

Conditioning conditional_half(const Conditioning& both) {
  const auto last = [](const Tensor& t) { return t.defined() ? t.narrow(0, t.size(0) - 1, 1) : t; };
  Conditioning half{last(both.context), both.added};
  half.added.text_embeds = last(both.added.text_embeds);
  half.added.time_ids = last(both.added.time_ids);
  return half;
}

// The U-Net under one conditioning, with what it sees beside the noise; it outlives the network made of it.
Network told(const UNet& unet, Conditioning conditioning, const Tensor& beside, at::ScalarType dtype) {
  return [&unet, c = std::move(conditioning), beside, dtype](const Tensor& in, double t) {
    check_interrupted();
    const Tensor x = beside.defined() ? at::cat({in, beside.expand({in.size(0), -1, -1, -1})}, 1) : in;
    return unet(x.to(dtype), t, c.context, c.added).to(at::kFloat);
  };
}

Denoiser denoiser_of(const Request& r, const Stretch& stretch, const UNet& unet, const Tensor& beside) {
  const at::ScalarType dtype = stretch.nets.precision().unet;
  const PredictionType prediction = stretch.sampler->prediction();
  const Network network = told(unet, stretch.conditioning, beside, dtype);
  if (!stretch.nets.checkpoint().is_guided(*r.cfg_scale)) return make_denoiser(network, prediction);
  const Denoiser guided = make_denoiser(guide(network, *r.cfg_scale, r.cfg_rescale.value_or(0)), prediction);
  const double from = r.cfg_start.value_or(0), to = r.cfg_end.value_or(1);
  if (from <= 0 && to >= 1) return guided;
  const Network plain = told(unet, conditional_half(stretch.conditioning), beside, dtype);
  return guided_between(from, to, guided, make_denoiser(plain, prediction));
}

}  // namespace

Tensor travel(const Request& r, const Stretch& stretch, const Beginning& begin, Tensor x, Journey& journey) {
  const UNet& unet = stretch.nets.unet(&journey.time.load);
  const double start = now_seconds();
  const std::vector<Step> steps = stretch.sampler->steps();
  const auto on_step = [&](int call, const Tensor& moved) {
    if (begin.kept) {
      const auto next = static_cast<std::size_t>(call) + 1;
      begin.kept->put_back(moved, next < steps.size() ? steps[next] : stretch.goal);
    }
    journey.on_call();
  };
  x = stretch.sampler->sample(
      journey.keeper.watch(denoiser_of(r, stretch, unet, begin.beside)), std::move(x),
      [&](at::IntArrayRef shape) { return journey.stream.randn(shape); }, on_step);
  journey.time.sample += now_seconds() - start;
  return x;
}

}  // namespace easel
