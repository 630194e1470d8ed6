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
  std::vector<OpenLora> loras;
  bool at_runtime = false;
  std::vector<ControlPtr> controls;

  Model(const Checkpoint& c, Precision precision) : checkpoint(c), tokenizers(c), own(c, precision) {}

  // The adapters of a request.
  void adapt(const Request& r) {
    loras = open_loras(r, checkpoint);
    at_runtime = r.lora_apply.value_or("at-load") == "at-runtime";
    controls = open_controls(r, checkpoint);
    adapt(own);
    if (float32) adapt(*float32);
  }

  StageSet& stages(bool full) {
    if (!full) return own;
    if (!float32) {
      float32.emplace(checkpoint, in_float32(own.precision()));
      adapt(*float32);
    }
    return *float32;
  }

 private:
  void adapt(StageSet& nets) const {
    nets.use_loras(loras, at_runtime);
    nets.use_controls(controls);
  }
};

}  // namespace

namespace {

// The pictures that one is drawn from.
struct Input {
  std::optional<PictureInput> begins;  // none: with noise alone
  std::vector<Image> controls;         // one a ControlNet
};
using Inputs = std::vector<const Input*>;  // of a pack

// A picture that failed by itself; what ends the whole run is thrown on.
template <class Draw>
Outcome outcome_of(const Draw& draw) {
  try {
    return draw();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kPicture) throw;
    return error;
  }
}

}  // namespace

struct Pipeline::Stages {
  Checkpoint checkpoint;
  Model base;
  std::optional<Model> refiner;
  std::optional<PixelPipeline> pixel;  // in place of all the others
  std::optional<int64_t> memory;
  CutWarnings cuts;

  Stages(Checkpoint c, Precision precision, std::optional<int64_t> limit);
  MemoryPlan plan(const Pack& pack);
  TextSchedule texts(Model& model, const Pack& pack, const MemoryPlan& plan, bool full, Timings& time,
                     std::optional<int64_t> first_pass = std::nullopt);
  std::vector<Stretch> way(const Pack& pack, const MemoryPlan& plan, bool full, Timings& time);
  Beginning begin(const Pack& pack, const Inputs& inputs, StageSet& nets, const Sampler& sampler,
                  std::vector<RandomStream>& streams, const MemoryPlan& plan, Timings& time);
  Tensor sample(const Pack& pack, const Inputs& inputs, const MemoryPlan& plan, bool full,
                const OnProgress& on_progress, TrajectoryKeeper& keeper, Timings& time);
  Tensor draw_over(const Pack& pack, const Inputs& given, int64_t first_pass, const Tensor& latents,
                   const MemoryPlan& plan, bool full, const std::function<void()>& on_call, Timings& time);
  Tensor decode(const Request& r, StageSet& nets, const Tensor& latent, const MemoryPlan& plan, Timings& time);
  Picture finish(const Request& r, const Input& input, Tensor latent, const MemoryPlan& plan, TrajectoryKeeper& keeper,
                 Picture picture);
  void free_pictures_networks();
  std::vector<AppliedControl> controls(const Pack& pack, const Inputs& inputs, StageSet& nets, Timings& time);
};

Pipeline::Stages::Stages(Checkpoint c, Precision precision, std::optional<int64_t> limit)
    : checkpoint(std::move(c)), base(checkpoint, precision_for(checkpoint, precision)), memory(limit) {
  if (checkpoint.pixel) pixel.emplace(*checkpoint.pixel, precision);
  if (checkpoint.refiner) refiner.emplace(*checkpoint.refiner, base.own.precision());
}

MemoryPlan Pipeline::Stages::plan(const Pack& pack) {
  StageSet* second = refiner ? &refiner->own : nullptr;
  const int64_t available = memory.value_or(usable_memory(base.own, second));
  const auto pictures = static_cast<int64_t>(pack.size());
  const Request& r = *pack.front();
  const MemoryPlan plan = check_memory(r, memory_phases(r, base.own, second, pictures), available, pictures);
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

TextSchedule Pipeline::Stages::texts(Model& model, const Pack& pack, const MemoryPlan& plan, bool full, Timings& time,
                                     std::optional<int64_t> first_pass) {
  StageSet& nets = model.stages(full);
  const auto make_room = [&] {
    if (plan.free_text) free_pictures_networks();
  };
  // Uploads go on beside the text encoders' work. The processor's cores would be taken from them.
  if (!plan.free_text && nets.precision().device.is_cuda()) nets.load_unet_ahead();
  TextSchedule schedule = condition(pack, first_pass, model.tokenizers, nets, cuts, make_room, time);
  if (plan.free_text) nets.free_text_encoders();
  return schedule;
}

// The networks that a pack passes on its way from noise, with what they are told.
std::vector<Stretch> Pipeline::Stages::way(const Pack& pack, const MemoryPlan& plan, bool full, Timings& time) {
  const Request& r = *pack.front();
  std::vector<Stretch> way;
  way.push_back({base.stages(full), make_sampler(r, checkpoint), texts(base, pack, plan, full, time)});
  if (!refiner) return way;
  way.push_back(
      {refiner->stages(full), make_refiner_sampler(r, *checkpoint.refiner), texts(*refiner, pack, plan, full, time)});
  way.front().goal = way.back().sampler->steps().front();
  return way;
}

Beginning Pipeline::Stages::begin(const Pack& pack, const Inputs& inputs, StageSet& nets, const Sampler& sampler,
                                  std::vector<RandomStream>& streams, const MemoryPlan& plan, Timings& time) {
  const int64_t factor = checkpoint.vae.factor();
  std::vector<Beginning> all;
  for (std::size_t i = 0; i < pack.size(); ++i) {
    const Request& r = *pack[i];
    const BeginningOptions options{.strength = r.strength.value_or(1), .strips = plan.strips};
    all.push_back(inputs[i]->begins
                      ? begin_with_picture(*inputs[i]->begins, nets, sampler, streams[i], options, time)
                      : begin_with_noise(nets, sampler,
                                         {1, checkpoint.vae.latent_channels, *r.height / factor, *r.width / factor},
                                         streams[i]));
  }
  if (plan.free_text) nets.free_vae_encoder();
  return joined(all);
}

// Of the pictures' size: the second pass of --hires is shown them at its own.
std::vector<AppliedControl> Pipeline::Stages::controls(const Pack& pack, const Inputs& inputs, StageSet& nets,
                                                       Timings& time) {
  std::vector<const std::vector<Image>*> pictures;
  for (const Input* input : inputs) pictures.push_back(&input->controls);
  return apply_controls(pack, pictures, nets, time);
}

std::vector<RandomStream> streams_of(const Pack& pack) {
  std::vector<RandomStream> streams;
  for (const Request* r : pack) streams.emplace_back(*r->seed);
  return streams;
}

int calls_of(const std::vector<Stretch>& way) {
  int calls = 0;
  for (const Stretch& stretch : way) calls += static_cast<int>(stretch.sampler->steps().size());
  return calls;
}

// [B, L, H/F, W/F] float32.
Tensor Pipeline::Stages::sample(const Pack& pack, const Inputs& inputs, const MemoryPlan& plan, bool full,
                                const OnProgress& on_progress, TrajectoryKeeper& keeper, Timings& time) {
  std::vector<Stretch> first = way(pack, plan, full, time);
  std::vector<Request> enlarged;
  for (const Request* r : pack) {
    if (auto second = second_pass(*r)) enlarged.push_back(std::move(*second));
  }
  int total = calls_of(first), done = 0;
  keeper.begin(total);
  if (!enlarged.empty()) total += static_cast<int>(make_sampler(enlarged.front(), checkpoint)->steps().size());
  const auto on_call = [&] {
    if (on_progress) on_progress(++done, total);
  };
  std::vector<RandomStream> streams = streams_of(pack);
  const Beginning start = begin(pack, inputs, first.front().nets, *first.front().sampler, streams, plan, time);
  first.front().controls = controls(pack, inputs, first.front().nets, time);
  Journey journey{streams, keeper, on_call, time};
  Tensor x = start.x;
  for (const Stretch& stretch : first) {
    x = travel(pack, stretch, start, x, journey);
    if (plan.free_unet) stretch.nets.free_unet();
  }
  if (enlarged.empty()) return x;
  Pack second;
  for (const Request& r : enlarged) second.push_back(&r);
  return draw_over(second, inputs, *pack.front()->steps, x, plan, full, on_call, time);
}

// The second pass of --hires: what `latents` show, enlarged, are the pictures that the pack begins with. Its noise is
// that of a run of its own, so that the two passes equal two runs. `first_pass`: how many steps the first had.
Tensor Pipeline::Stages::draw_over(const Pack& pack, const Inputs& given, int64_t first_pass, const Tensor& latents,
                                   const MemoryPlan& plan, bool full, const std::function<void()>& on_call,
                                   Timings& time) {
  const Request& r = *pack.front();
  TrajectoryKeeper nobody(nullptr);
  StageSet& nets = base.stages(full);
  Stretch stretch{nets, make_sampler(r, checkpoint), texts(base, pack, plan, full, time, first_pass)};
  std::vector<RandomStream> streams = streams_of(pack);
  Beginning start;
  if (r.hires_upscaler == "latent") {
    const int64_t factor = checkpoint.vae.factor();
    const Tensor large = at::upsample_bicubic2d(latents, {*r.height / factor, *r.width / factor}, false);
    std::vector<Tensor> noise;
    for (RandomStream& stream : streams) noise.push_back(stream.randn(large.narrow(0, 0, 1).sizes()));
    start.x = stretch.sampler->noised(large, at::cat(noise).to(large.device()));
  } else {
    std::vector<Input> shown(pack.size());
    Inputs inputs;
    for (std::size_t i = 0; i < pack.size(); ++i) {
      const Tensor pixels = decode(r, nets, latents.narrow(0, static_cast<int64_t>(i), 1), plan, time);
      shown[i].begins.emplace().picture =
          resize(to_image(pixels), static_cast<int>(*r.width), static_cast<int>(*r.height));
      inputs.push_back(&shown[i]);
    }
    start = begin(pack, inputs, nets, *stretch.sampler, streams, plan, time);
  }
  stretch.controls = controls(pack, given, nets, time);
  Journey journey{streams, nobody, on_call, time};
  const Tensor x = travel(pack, stretch, start, start.x, journey);
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

// From a finite latent [1, L, h, w] to the picture.
Picture Pipeline::Stages::finish(const Request& r, const Input& input, Tensor latent, const MemoryPlan& plan,
                                 TrajectoryKeeper& keeper, Picture picture) {
  Tensor pixels = decode(r, base.own, latent, plan, picture.timings);
  if (!is_finite(pixels) && picture.precision.vae != at::kFloat) {
    warn_of_retry("the VAE", picture.precision.vae);
    picture.precision.vae = at::kFloat;
    pixels = decode(r, base.stages(/*full=*/true), latent, plan, picture.timings);
  }
  if (!is_finite(pixels)) throw not_finite("the VAE");
  // With the VAE that gave the picture.
  StageSet& decoding = base.stages(/*full=*/picture.precision.vae != base.own.precision().vae);
  keeper.finish([&](const Tensor& x) { return decode(r, decoding, x, plan, picture.timings); });
  picture.latent = latent.to(at::kCPU);
  picture.image = to_image(pixels);
  if (input.begins) picture.image = input.begins->finished(std::move(picture.image));
  return picture;
}

namespace {

Timings divided(Timings time, std::size_t by) {
  const auto n = static_cast<double>(by);
  return {time.load / n, time.encode / n, time.sample / n, time.decode / n};
}

std::vector<Input> read_inputs(const Pack& pack) {
  std::vector<Input> inputs;
  for (const Request* r : pack) inputs.push_back({read_picture_input(*r), read_control_pictures(*r)});
  return inputs;
}

}  // namespace

std::vector<Outcome> Pipeline::generate(const std::vector<Request>& requests, const OnProgress& on_progress,
                                        Trajectory* trajectory) {
  const c10::InferenceMode guard;
  Stages& s = *stages_;
  std::vector<Outcome> outcomes;
  if (s.pixel) {
    for (const Request& r : requests)
      outcomes.push_back(outcome_of([&] { return s.pixel->generate(r, on_progress, trajectory); }));
    return outcomes;
  }
  Pack pack;
  for (const Request& r : requests) pack.push_back(&r);
  s.base.adapt(*pack.front());
  const MemoryPlan plan = s.plan(pack);
  const std::vector<Input> read = read_inputs(pack);
  Inputs inputs;
  for (const Input& input : read) inputs.push_back(&input);

  TrajectoryKeeper keeper(trajectory);
  Timings time;
  const Tensor latents = s.sample(pack, inputs, plan, /*full=*/false, on_progress, keeper, time);
  for (std::size_t i = 0; i < pack.size(); ++i) {
    outcomes.push_back(outcome_of([&] {
      Picture picture;
      picture.precision = s.base.own.precision();
      picture.timings = divided(time, pack.size());
      Tensor latent = latents.narrow(0, static_cast<int64_t>(i), 1);
      if (!is_finite(latent) && picture.precision.unet != at::kFloat) {
        warn_of_retry("the U-Net", picture.precision.unet);
        picture.precision.text = picture.precision.unet = at::kFloat;
        latent = s.sample({pack[i]}, {inputs[i]}, plan, /*full=*/true, on_progress, keeper, picture.timings);
      }
      if (!is_finite(latent)) throw not_finite("the U-Net");
      return s.finish(*pack[i], *inputs[i], latent, plan, keeper, std::move(picture));
    }));
  }
  return outcomes;
}

Picture Pipeline::generate(const Request& r, const OnProgress& on_progress, Trajectory* trajectory) {
  std::vector<Outcome> outcomes = generate(std::vector{r}, on_progress, trajectory);
  if (const Error* error = std::get_if<Error>(&outcomes.front())) throw *error;
  return std::get<Picture>(std::move(outcomes.front()));
}

std::optional<double> Pipeline::seconds_of_call(const Request& r, int64_t pictures) {
  const c10::InferenceMode guard;
  Stages& s = *stages_;
  if (s.pixel) return std::nullopt;
  const Pack pack(static_cast<std::size_t>(pictures), &r);
  s.base.adapt(r);
  MemoryPlan plan;
  try {
    plan = s.plan(pack);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kMemory) throw;
    return std::nullopt;
  }
  Timings time;
  Stretch stretch{s.base.own, make_sampler(r, s.checkpoint), s.texts(s.base, pack, plan, /*full=*/false, time)};
  const Input given = {std::nullopt, read_control_pictures(r)};
  stretch.controls = s.controls(pack, Inputs(pack.size(), &given), s.base.own, time);
  const UNet& unet = s.base.own.unet(&time.load);
  const Conditioning& told = stretch.texts.all.front();
  const int64_t factor = s.checkpoint.vae.factor(), rows = told.context.size(0);
  const auto zeros = [&](int64_t channels) {
    return at::zeros({rows, channels, *r.height / factor, *r.width / factor},
                     at::TensorOptions().dtype(s.base.own.precision().unet).device(s.base.own.precision().device));
  };
  const Tensor x = zeros(s.checkpoint.unet.in_channels), latents = zeros(s.checkpoint.vae.latent_channels);
  const auto conditions = static_cast<int64_t>(stretch.texts.weights.front().size());
  const auto call = [&] {
    check_interrupted();
    const double start = now_seconds(), t = stretch.sampler->steps().front().t;
    const auto control = residuals(stretch.controls, {0, 1}, latents, t, told, pictures, conditions);
    unet(x, t, told.context, told.added, control ? &*control : nullptr).to(at::kCPU);
    return now_seconds() - start;
  };
  call();
  return call();
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
