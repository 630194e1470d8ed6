// The way of a picture: prompt → conditioning; seed → noise → latent by the sampler; latent → pixels.
#include <c10/core/InferenceMode.h>

#include "pipeline/conditioning.h"
#include "pipeline/memory_plan.h"
#include "pipeline/not_finite.h"
#include "pipeline/pixel_model.h"
#include "pipeline/trajectory.h"

namespace easel {

namespace {

// float16 overflows inside SDXL's VAE. diffusers' SDXL pipelines look at force_upcast, those of 1.x and 2.x do not.
Precision precision_for(const Checkpoint& c, Precision precision) {
  if (c.is_sdxl() && c.vae.force_upcast && precision.vae == at::kHalf) precision.vae = at::kFloat;
  return precision;
}

Precision in_float32(Precision precision) {
  precision.text = precision.unet = precision.vae = at::kFloat;
  return precision;
}

// One checkpoint: its tokenizers, its networks, and those in float32 for what is not finite in half precision.
struct Model {
  const Checkpoint& checkpoint;
  Tokenizers tokenizers;
  StageSet own;
  std::optional<StageSet> float32;

  Model(const Checkpoint& c, Precision precision) : checkpoint(c), tokenizers(c), own(c, precision) {}

  StageSet& stages(bool full) {
    if (!full) return own;
    if (!float32) float32.emplace(checkpoint, in_float32(own.precision()));
    return *float32;
  }
};

}  // namespace

struct Pipeline::Stages {
  Checkpoint checkpoint;
  Model base;
  std::optional<Model> refiner;
  std::optional<PixelPipeline> pixel;  // in place of all the others
  std::optional<int64_t> memory;
  CutWarnings cuts;

  Stages(Checkpoint c, Precision precision, std::optional<int64_t> limit);
  MemoryPlan plan(const Request& r);
  Tensor sample(const Request& r, const MemoryPlan& plan, bool full, const OnProgress& on_progress,
                TrajectoryKeeper& keeper, Timings& time);
  Conditioning conditioning(Model& model, const Request& r, const MemoryPlan& plan, bool full, Timings& time);
  Tensor decode(StageSet& nets, const Tensor& latent, Timings& time);
  void free_pictures_networks();
};

Pipeline::Stages::Stages(Checkpoint c, Precision precision, std::optional<int64_t> limit)
    : checkpoint(std::move(c)), base(checkpoint, precision_for(checkpoint, precision)), memory(limit) {
  if (checkpoint.pixel) pixel.emplace(*checkpoint.pixel, precision);
  if (checkpoint.refiner) refiner.emplace(*checkpoint.refiner, base.own.precision());
}

MemoryPlan Pipeline::Stages::plan(const Request& r) {
  StageSet* second = refiner ? &refiner->own : nullptr;
  const int64_t available = memory.value_or(usable_memory(base.own, second));
  const MemoryPlan plan = check_memory(r, memory_phases(r, base.own, second), available);
  if (plan.free_unet) free_pictures_networks();
  return plan;
}

// All but the text encoders, of the picture before.
void Pipeline::Stages::free_pictures_networks() {
  const auto free_of = [](Model& model) {
    for (StageSet* nets : {&model.own, model.float32 ? &*model.float32 : nullptr}) {
      if (nets == nullptr) continue;
      nets->free_unet();
      nets->free_vae_decoder();
    }
  };
  free_of(base);
  if (refiner) free_of(*refiner);
}

Conditioning Pipeline::Stages::conditioning(Model& model, const Request& r, const MemoryPlan& plan, bool full,
                                            Timings& time) {
  StageSet& nets = model.stages(full);
  const auto make_room = [&] {
    if (plan.free_text) free_pictures_networks();
  };
  Conditioning conditioning = condition(r, model.tokenizers, nets, cuts, make_room, time);
  if (plan.free_text) nets.free_text_encoders();
  return conditioning;
}

namespace {

// What one network does of the way from noise to latent.
struct Stretch {
  StageSet& nets;
  std::unique_ptr<Sampler> sampler;
  Conditioning conditioning;
};

Conditioning conditional_half(const Conditioning& both) {
  const auto last = [](const Tensor& t) { return t.defined() ? t.narrow(0, t.size(0) - 1, 1) : t; };
  Conditioning half{last(both.context), both.added};
  half.added.text_embeds = last(both.added.text_embeds);
  half.added.time_ids = last(both.added.time_ids);
  return half;
}

// The U-Net under one conditioning; it outlives the network made of it.
Network told(const UNet& unet, Conditioning conditioning, at::ScalarType dtype) {
  return [&unet, c = std::move(conditioning), dtype](const Tensor& in, double t) {
    check_interrupted();
    return unet(in.to(dtype), t, c.context, c.added).to(at::kFloat);
  };
}

// x, in the sampler's own scaling, moved along the sampler's steps. It computes in float32 whatever the network's
// dtype.
Tensor travel(const Request& r, const Stretch& stretch, Tensor x, RandomStream& stream, TrajectoryKeeper& keeper,
              const std::function<void(int, const Tensor&)>& on_step, Timings& time) {
  const UNet& unet = stretch.nets.unet(&time.load);
  const double start = now_seconds();
  const Network network = told(unet, stretch.conditioning, stretch.nets.precision().unet);
  const bool guided = stretch.nets.checkpoint().is_guided(*r.cfg_scale);
  const PredictionType prediction = stretch.sampler->prediction();
  Denoiser denoise =
      make_denoiser(guided ? guide(network, *r.cfg_scale, r.cfg_rescale.value_or(0)) : network, prediction);
  const double from = r.cfg_start.value_or(0), to = r.cfg_end.value_or(1);
  if (guided && (from > 0 || to < 1)) {
    const Network plain = told(unet, conditional_half(stretch.conditioning), stretch.nets.precision().unet);
    denoise = guided_between(from, to, denoise, make_denoiser(plain, prediction));
  }
  x = stretch.sampler->sample(
      keeper.watch(denoise), x, [&](at::IntArrayRef shape) { return stream.randn(shape); }, on_step);
  time.sample += now_seconds() - start;
  return x;
}

}  // namespace

// [1, L, H/F, W/F] float32.
Tensor Pipeline::Stages::sample(const Request& r, const MemoryPlan& plan, bool full, const OnProgress& on_progress,
                                TrajectoryKeeper& keeper, Timings& time) {
  std::vector<Stretch> way;
  way.push_back({base.stages(full), make_sampler(r, checkpoint), conditioning(base, r, plan, full, time)});
  if (refiner)
    way.push_back({refiner->stages(full), make_refiner_sampler(r, *checkpoint.refiner),
                   conditioning(*refiner, r, plan, full, time)});
  int total = 0, done = 0;
  for (const Stretch& stretch : way) total += static_cast<int>(stretch.sampler->steps().size());
  keeper.begin(total);

  RandomStream stream(*r.seed);
  const int64_t factor = checkpoint.vae.factor();
  const Tensor noise = stream.randn({1, checkpoint.vae.latent_channels, *r.height / factor, *r.width / factor});
  Tensor x = (noise * way.front().sampler->init_scale()).to(base.own.precision().device);
  for (const Stretch& stretch : way) {
    x = travel(
        r, stretch, x, stream, keeper,
        [&](int, const Tensor&) {
          if (on_progress) on_progress(++done, total);
        },
        time);
    if (plan.free_unet) stretch.nets.free_unet();
  }
  return x;
}

// [3, H, W] float32 on the CPU.
Tensor Pipeline::Stages::decode(StageSet& nets, const Tensor& latent, Timings& time) {
  check_interrupted();
  const VaeDecoder& decoder = nets.vae_decoder(&time.load);
  const double start = now_seconds();
  const Tensor pixels = decoder(latent.to(nets.precision().vae)).to(at::kFloat).to(at::kCPU)[0];
  time.decode += now_seconds() - start;
  return pixels;
}

Pipeline::Pipeline(Checkpoint checkpoint, Precision precision, std::optional<int64_t> memory) {
  const c10::InferenceMode guard;
  const bool prefer_half = precision.unet != at::kFloat;
  if (!checkpoint.pixel) audit(checkpoint, prefer_half);
  if (checkpoint.refiner) audit(*checkpoint.refiner, prefer_half);
  stages_ = std::make_unique<Stages>(std::move(checkpoint), precision, memory);
}

Pipeline::~Pipeline() = default;

Picture Pipeline::generate(const Request& r, const OnProgress& on_progress, Trajectory* trajectory) {
  const c10::InferenceMode guard;
  Stages& s = *stages_;
  if (s.pixel) return s.pixel->generate(r, on_progress, trajectory);
  Picture picture;
  picture.precision = s.base.own.precision();
  const MemoryPlan plan = s.plan(r);

  TrajectoryKeeper keeper(trajectory);
  Tensor latent = s.sample(r, plan, /*full=*/false, on_progress, keeper, picture.timings);
  if (!is_finite(latent) && picture.precision.unet != at::kFloat) {
    warn_of_retry("the U-Net", picture.precision.unet);
    picture.precision.text = picture.precision.unet = at::kFloat;
    latent = s.sample(r, plan, /*full=*/true, on_progress, keeper, picture.timings);
  }
  if (!is_finite(latent)) throw not_finite("the U-Net");

  Tensor pixels = s.decode(s.base.own, latent, picture.timings);
  if (!is_finite(pixels) && picture.precision.vae != at::kFloat) {
    warn_of_retry("the VAE", picture.precision.vae);
    picture.precision.vae = at::kFloat;
    pixels = s.decode(s.base.stages(/*full=*/true), latent, picture.timings);
  }
  if (!is_finite(pixels)) throw not_finite("the VAE");
  // With the VAE that gave the picture.
  StageSet& decoding = s.base.stages(/*full=*/picture.precision.vae != s.base.own.precision().vae);
  keeper.finish([&](const Tensor& x) { return s.decode(decoding, x, picture.timings); });

  picture.latent = latent.to(at::kCPU);
  picture.image = to_image(pixels);
  return picture;
}

const Checkpoint& Pipeline::checkpoint() const { return stages_->checkpoint; }
const Precision& Pipeline::precision() const { return stages_->base.own.precision(); }

std::vector<std::string> Pipeline::loaded() const {
  std::vector<std::string> names;
  const auto add = [&](const Model& model, const std::string& whose) {
    for (const Part part : parts_of(model.checkpoint)) {
      if (model.own.is_loaded(part)) names.push_back(whose + name_of(part));
    }
  };
  add(stages_->base, "");
  if (stages_->refiner) add(*stages_->refiner, "refiner's ");
  return names;
}

}  // namespace easel
