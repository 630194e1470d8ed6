// The way of a picture: prompt → conditioning; seed → noise → latent by the sampler; latent → pixels.
#include <c10/core/InferenceMode.h>

#include "pipeline/memory_plan.h"
#include "pipeline/not_finite.h"
#include "pipeline/picture_request.h"
#include "pipeline/pixel_model.h"
#include "pipeline/stretch.h"

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
  std::vector<Stretch> way(const Request& r, const MemoryPlan& plan, bool full, Timings& time);
  Tensor sample(const Request& r, const PictureInput* input, const MemoryPlan& plan, bool full,
                const OnProgress& on_progress, TrajectoryKeeper& keeper, Timings& time);
  Tensor draw_over(const Request& r, const Tensor& latent, const MemoryPlan& plan, bool full,
                   const std::function<void()>& on_call, Timings& time);
  Conditioning conditioning(Model& model, const Request& r, const MemoryPlan& plan, bool full, Timings& time);
  Tensor decode(const Request& r, StageSet& nets, const Tensor& latent, const MemoryPlan& plan, Timings& time);
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
      nets->free_vae_encoder();
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

// The networks that a picture passes on its way from noise, with what they are told.
std::vector<Stretch> Pipeline::Stages::way(const Request& r, const MemoryPlan& plan, bool full, Timings& time) {
  std::vector<Stretch> way;
  way.push_back({base.stages(full), make_sampler(r, checkpoint), conditioning(base, r, plan, full, time)});
  if (!refiner) return way;
  way.push_back({refiner->stages(full), make_refiner_sampler(r, *checkpoint.refiner),
                 conditioning(*refiner, r, plan, full, time)});
  way.front().goal = way.back().sampler->steps().front();
  return way;
}

int calls_of(const std::vector<Stretch>& way) {
  int calls = 0;
  for (const Stretch& stretch : way) calls += static_cast<int>(stretch.sampler->steps().size());
  return calls;
}

// [1, L, H/F, W/F] float32.
Tensor Pipeline::Stages::sample(const Request& r, const PictureInput* input, const MemoryPlan& plan, bool full,
                                const OnProgress& on_progress, TrajectoryKeeper& keeper, Timings& time) {
  const std::vector<Stretch> first = way(r, plan, full, time);
  const std::optional<Request> enlarged = second_pass(r);
  const int total =
      calls_of(first) + (enlarged ? static_cast<int>(make_sampler(*enlarged, checkpoint)->steps().size()) : 0);
  int done = 0;
  const auto on_call = [&] {
    if (on_progress) on_progress(++done, total);
  };
  keeper.begin(calls_of(first));
  RandomStream stream(*r.seed);
  StageSet& nets = first.front().nets;
  const int64_t factor = checkpoint.vae.factor();
  const BeginningOptions options{.strength = r.strength.value_or(1), .strips = plan.strips};
  const Beginning begin =
      input ? begin_with_picture(*input, nets, *first.front().sampler, stream, options, time)
            : begin_with_noise(nets, *first.front().sampler,
                               {1, checkpoint.vae.latent_channels, *r.height / factor, *r.width / factor}, stream);
  if (plan.free_text) nets.free_vae_encoder();
  Journey journey{stream, keeper, on_call, time};
  Tensor x = begin.x;
  for (const Stretch& stretch : first) {
    x = travel(r, stretch, begin, x, journey);
    if (plan.free_unet) stretch.nets.free_unet();
  }
  if (enlarged) x = draw_over(*enlarged, x, plan, full, on_call, time);
  return x;
}

// The second pass of --hires: what `latent` shows, enlarged, is the picture that `r` begins with. Its noise is that of
// a run of its own, so that the two passes equal two runs.
Tensor Pipeline::Stages::draw_over(const Request& r, const Tensor& latent, const MemoryPlan& plan, bool full,
                                   const std::function<void()>& on_call, Timings& time) {
  TrajectoryKeeper nobody(nullptr);
  StageSet& nets = base.stages(full);
  const Stretch stretch{nets, make_sampler(r, checkpoint), conditioning(base, r, plan, full, time)};
  RandomStream stream(*r.seed);
  Beginning begin;
  if (r.hires_upscaler == "latent") {
    const int64_t factor = checkpoint.vae.factor();
    const Tensor large = at::upsample_bicubic2d(latent, {*r.height / factor, *r.width / factor}, false);
    begin.x = stretch.sampler->noised(large, stream.randn(large.sizes()).to(large.device()));
  } else {
    PictureInput input;
    input.picture =
        resize(to_image(decode(r, nets, latent, plan, time)), static_cast<int>(*r.width), static_cast<int>(*r.height));
    begin = begin_with_picture(input, nets, *stretch.sampler, stream, {*r.strength, plan.strips}, time);
    if (plan.free_text) nets.free_vae_encoder();
  }
  Journey journey{stream, nobody, on_call, time};
  const Tensor x = travel(r, stretch, begin, begin.x, journey);
  if (plan.free_unet) nets.free_unet();
  return x;
}

// [3, H, W] float32 on the CPU.
Tensor Pipeline::Stages::decode(const Request& r, StageSet& nets, const Tensor& latent, const MemoryPlan& plan,
                                Timings& time) {
  check_interrupted();
  const VaeDecoder& decoder = nets.vae_decoder(&time.load);
  const double start = now_seconds();
  const Tensor in = latent.to(nets.precision().vae);
  const Tensor pixels = r.vae_tiling_fast.value_or(false) ? decoder.in_tiles(in)
                        : plan.strips                     ? decoder.in_strips(in)
                                                          : decoder(in);
  time.decode += now_seconds() - start;
  return pixels.to(at::kFloat).to(at::kCPU)[0];
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

  const std::optional<PictureInput> input = read_picture_input(r);

  TrajectoryKeeper keeper(trajectory);
  const auto sample = [&](bool full) {
    return s.sample(r, input ? &*input : nullptr, plan, full, on_progress, keeper, picture.timings);
  };
  Tensor latent = sample(/*full=*/false);
  if (!is_finite(latent) && picture.precision.unet != at::kFloat) {
    warn_of_retry("the U-Net", picture.precision.unet);
    picture.precision.text = picture.precision.unet = at::kFloat;
    latent = sample(/*full=*/true);
  }
  if (!is_finite(latent)) throw not_finite("the U-Net");

  Tensor pixels = s.decode(r, s.base.own, latent, plan, picture.timings);
  if (!is_finite(pixels) && picture.precision.vae != at::kFloat) {
    warn_of_retry("the VAE", picture.precision.vae);
    picture.precision.vae = at::kFloat;
    pixels = s.decode(r, s.base.stages(/*full=*/true), latent, plan, picture.timings);
  }
  if (!is_finite(pixels)) throw not_finite("the VAE");
  // With the VAE that gave the picture.
  StageSet& decoding = s.base.stages(/*full=*/picture.precision.vae != s.base.own.precision().vae);
  keeper.finish([&](const Tensor& x) { return s.decode(r, decoding, x, plan, picture.timings); });

  picture.latent = latent.to(at::kCPU);
  picture.image = to_image(pixels);
  if (input) picture.image = input->finished(std::move(picture.image));
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
