#include "pipeline/stretch.h"

#include "pipeline/step_cache.h"

namespace easel {

namespace {

// What the network is told at the step it is called for, and which call that is.
struct Told {
  Conditioning texts = {};
  int call = -1;
};
using Telling = std::shared_ptr<Told>;

// A capture takes about as long as a step (an estimate, not measured): for a few steps it is not worth it.
constexpr std::size_t kFewestGraphedSteps = 8;

StepGraphs graphs_of(const std::vector<Step>& steps, at::Device device) {
  return StepGraphs(steps.size() >= kFewestGraphedSteps ? cuda_graphs(device) : nullptr);
}

std::vector<double> timesteps_of(const std::vector<Step>& steps) {
  std::vector<double> timesteps;
  for (const Step& step : steps) timesteps.push_back(step.t);
  return timesteps;
}

// It lives as long as this way through the steps: so it knows one network with one choice of LoRAs, and its memory is
// free before the picture is decoded.
struct Kept {
  TextProjections texts;
  TimeProjections times;
  StepGraphs graphs;
  Kept(const std::vector<Step>& steps, at::Device device)
      : times(timesteps_of(steps)), graphs(graphs_of(steps, device)) {}
};

// The U-Net under one telling, with what it sees beside the noise and what ControlNets add. It refers to the stretch,
// and the U-Net outlives it.
Network told(const UNet& unet, Telling now, const Tensor& beside, const Stretch& stretch, const Pack& pack) {
  const auto pictures = static_cast<int64_t>(pack.size());
  const std::optional<std::string>& cache_text = pack.front()->cache;
  const auto cache = cache_text ? std::make_shared<StepCache>(step_cache_of(*cache_text).value()) : nullptr;
  const std::vector<Step> steps = stretch.sampler->steps();
  const auto kept = std::make_shared<Kept>(steps, stretch.nets.precision().device);
  const auto calls = static_cast<int>(steps.size());
  return [&unet, now = std::move(now), beside, &stretch, pictures, calls, cache, kept](const Tensor& in, double t) {
    check_interrupted();
    const at::ScalarType dtype = stretch.nets.precision().unet;
    const Tensor x = beside.defined() ? at::cat({in, beside.repeat({in.size(0) / beside.size(0), 1, 1, 1})}, 1) : in;
    const auto conditions = static_cast<int64_t>(stretch.texts.weights.front().size());
    const auto control =
        residuals(stretch.controls, {now->call, calls}, in.to(dtype), t, now->texts, pictures, conditions);
    DeepFeature* deep = cache ? &cache->next(x.size(0)) : nullptr;
    return unet(x.to(dtype), t, now->texts.context, now->texts.added, control ? &*control : nullptr,
                {.deep = deep, .texts = &kept->texts, .times = &kept->times, .graphs = &kept->graphs})
        .to(at::kFloat);
  };
}

// Sets the telling before each call.
Denoiser over_steps(Denoiser denoise, Telling now, std::function<Conditioning(const Step&)> texts) {
  return [denoise = std::move(denoise), now = std::move(now), texts = std::move(texts)](const Tensor& x,
                                                                                        const Step& step) {
    now->texts = texts(step);
    ++now->call;
    return denoise(x, step);
  };
}

Network guided(const Pack& pack, Network network, const TextSchedule& texts) {
  std::vector<double> scales, rescales;
  for (const Request* r : pack) {
    scales.push_back(*r->cfg_scale);
    rescales.push_back(r->cfg_rescale.value_or(0));
  }
  return texts.is_composed() ? guide(std::move(network), std::move(scales), std::move(rescales), texts.weights)
                             : guide(std::move(network), std::move(scales), std::move(rescales));
}

// It refers to the stretch.
Denoiser denoiser_of(const Pack& pack, const Stretch& stretch, const UNet& unet, const Tensor& beside) {
  const Request& r = *pack.front();
  const TextSchedule& texts = stretch.texts;
  const PredictionType prediction = stretch.sampler->prediction();
  const auto now = std::make_shared<Told>();
  const auto pictures = static_cast<int64_t>(pack.size());
  const Network network = told(unet, now, beside, stretch, pack);
  const Network unguided = texts.is_composed() ? composed(network, texts.weights) : network;
  const auto all = [&texts](const Step& step) { return texts.at(step); };
  if (!stretch.nets.checkpoint().is_guided(*r.cfg_scale))
    return over_steps(make_denoiser(unguided, prediction), now, all);
  const Denoiser with_guidance = over_steps(make_denoiser(guided(pack, network, texts), prediction), now, all);
  const double from = r.cfg_start.value_or(0), to = r.cfg_end.value_or(1);
  if (from <= 0 && to >= 1) return with_guidance;
  const auto conditional = [&texts, pictures](const Step& step) { return conditional_rows(texts.at(step), pictures); };
  return guided_between(from, to, with_guidance, over_steps(make_denoiser(unguided, prediction), now, conditional));
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
