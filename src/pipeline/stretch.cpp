#include "pipeline/stretch.h"

namespace easel {

namespace {

Conditioning conditional_half(const Conditioning& both) {
  const auto last = [](const Tensor& t) { return t.defined() ? t.chunk(2)[1] : t; };
  Conditioning half{last(both.context), both.added};
  half.added.text_embeds = last(both.added.text_embeds);
  half.added.time_ids = last(both.added.time_ids);
  return half;
}

// The U-Net under one conditioning, with what it sees beside the noise; it outlives the network made of it.
Network told(const UNet& unet, Conditioning conditioning, const Tensor& beside, at::ScalarType dtype) {
  return [&unet, c = std::move(conditioning), beside, dtype](const Tensor& in, double t) {
    check_interrupted();
    const Tensor x = beside.defined() ? at::cat({in, beside.repeat({in.size(0) / beside.size(0), 1, 1, 1})}, 1) : in;
    return unet(x.to(dtype), t, c.context, c.added).to(at::kFloat);
  };
}

Network guided(const Pack& pack, Network network) {
  std::vector<double> scales, rescales;
  for (const Request* r : pack) {
    scales.push_back(*r->cfg_scale);
    rescales.push_back(r->cfg_rescale.value_or(0));
  }
  return guide(std::move(network), std::move(scales), std::move(rescales));
}

Denoiser denoiser_of(const Pack& pack, const Stretch& stretch, const UNet& unet, const Tensor& beside) {
  const Request& r = *pack.front();
  const at::ScalarType dtype = stretch.nets.precision().unet;
  const PredictionType prediction = stretch.sampler->prediction();
  const Network network = told(unet, stretch.conditioning, beside, dtype);
  if (!stretch.nets.checkpoint().is_guided(*r.cfg_scale)) return make_denoiser(network, prediction);
  const Denoiser with_guidance = make_denoiser(guided(pack, network), prediction);
  const double from = r.cfg_start.value_or(0), to = r.cfg_end.value_or(1);
  if (from <= 0 && to >= 1) return with_guidance;
  const Network plain = told(unet, conditional_half(stretch.conditioning), beside, dtype);
  return guided_between(from, to, with_guidance, make_denoiser(plain, prediction));
}

// Noise of the pack's shape, each picture's from its own stream.
Tensor draw(std::vector<RandomStream>& streams, at::IntArrayRef shape) {
  std::vector<int64_t> one = shape.vec();
  one.front() = 1;
  std::vector<Tensor> rows;
  for (RandomStream& stream : streams) rows.push_back(stream.randn(one));
  return at::cat(rows);
}

}  // namespace

Tensor travel(const Pack& pack, const Stretch& stretch, const Beginning& begin, Tensor x, Journey& journey) {
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
      journey.keeper.watch(denoiser_of(pack, stretch, unet, begin.beside)), std::move(x),
      [&](at::IntArrayRef shape) { return draw(journey.streams, shape); }, on_step);
  journey.time.sample += now_seconds() - start;
  return x;
}

}  // namespace easel
