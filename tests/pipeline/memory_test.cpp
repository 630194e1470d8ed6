// The memory plan: what is freed, when, and what is refused.
#include "pipeline/drawing.h"
#include "pipeline/memory_plan.h"

namespace easel {
namespace {

using namespace testing;
using Kind = MemoryPhase::Kind;

const std::vector<MemoryPhase> kPhases = {
    {Kind::kText, "text", 20, 0}, {Kind::kUNet, "unet", 50, 10}, {Kind::kVae, "vae", 5, 30}};

TEST(MemoryPlan, KeepsWhatFits) {
  const MemoryPlan all = plan_memory(kPhases, 105);
  EXPECT_FALSE(all.free_text || all.free_unet);
  EXPECT_EQ(all.peak, 105);
  EXPECT_EQ(all.largest, "vae");
  const MemoryPlan without_text = plan_memory(kPhases, 104);
  EXPECT_TRUE(without_text.free_text && !without_text.free_unet);
  EXPECT_EQ(without_text.peak, 85);
  const MemoryPlan one_by_one = plan_memory(kPhases, 84);
  EXPECT_TRUE(one_by_one.free_text && one_by_one.free_unet);
  EXPECT_EQ(one_by_one.peak, 60);
  EXPECT_EQ(one_by_one.largest, "unet");
}

TEST(MemoryPlan, ARefinerIsTwoPhasesMore) {
  const std::vector<MemoryPhase> phases = {{Kind::kText, "text", 20, 0},
                                           {Kind::kText, "text 2", 15, 0},
                                           {Kind::kUNet, "unet", 50, 10},
                                           {Kind::kUNet, "unet 2", 45, 10},
                                           {Kind::kVae, "vae", 5, 30}};
  EXPECT_EQ(plan_memory(phases, 1000).peak, 165);
  EXPECT_EQ(plan_memory(phases, 164).peak, 130);
  EXPECT_EQ(plan_memory(phases, 129).peak, 60);
}

// The tiny models' phases, as the pipeline asks for them.
struct Drawn {
  Picture picture;
  std::vector<std::string> loaded;
};

Drawn draw_within(const Checkpoint& c, std::optional<int64_t> memory) {
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  Pipeline pipeline(c, f32, memory);
  Request request;
  request.prompt = "a cat";
  request.seed = 3;
  request.steps = 2;
  request.width = 40;
  request.height = 24;
  const Request r = resolve(request, pipeline.checkpoint(), f32);
  Picture first = pipeline.generate(r);
  const std::vector<std::string> loaded = pipeline.loaded();
  EXPECT_EQ(pipeline.generate(r).image.pixels, first.image.pixels) << "what was freed is loaded again";
  Request other = r;
  other.prompt = "a dog";
  EXPECT_NE(pipeline.generate(other).image.pixels, first.image.pixels);
  return {std::move(first), loaded};
}

std::vector<MemoryPhase> phases_of(const Checkpoint& c) {
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  StageSet base(c, f32);
  std::optional<StageSet> refiner;
  if (c.refiner) refiner.emplace(*c.refiner, f32);
  Request request;
  request.prompt = "a cat";
  request.seed = 3;
  request.width = 40;
  request.height = 24;
  return memory_phases(resolve(request, c, f32), base, refiner ? &*refiner : nullptr);
}

TEST(Memory, FreedNetworksDrawTheSamePicture) {
  const TinyCheckpoints tiny;
  Checkpoint c = open_checkpoint(tiny.folder("sdxl"));
  use_refiner(c, tiny.folder("sdxl-refiner"));
  const std::vector<MemoryPhase> phases = phases_of(c);
  const int64_t all = plan_memory(phases, int64_t{1} << 60).peak;
  const int64_t least = plan_memory(phases, 0).peak, without_text = plan_memory(phases, all - 1).peak;
  ASSERT_LT(least, without_text);

  const Drawn kept = draw_within(c, all);
  EXPECT_EQ(kept.loaded, (std::vector<std::string>{"text_encoder", "text_encoder_2", "unet", "vae",
                                                   "refiner's text_encoder_2", "refiner's unet"}));
  const Drawn some = draw_within(c, without_text), one_by_one = draw_within(c, least);
  EXPECT_EQ(some.loaded, (std::vector<std::string>{"unet", "vae", "refiner's unet"}));
  EXPECT_EQ(one_by_one.loaded, (std::vector<std::string>{"vae"}));
  EXPECT_EQ(some.picture.image.pixels, kept.picture.image.pixels);
  EXPECT_EQ(one_by_one.picture.image.pixels, kept.picture.image.pixels);
  expect_fault(
      {"40x24 needs about", "alone", "are available"}, [&] { draw_within(c, least - 1); }, ErrorKind::kMemory);
}

TEST(Picture, WhatCannotFitIsRefusedBeforeTheFirstStep) {
  const TinyCheckpoints tiny;
  const Precision f32 = resolve_precision("cpu", DtypeChoice::kF32);
  Pipeline pipeline(open_checkpoint(tiny.folder("sd1")), f32);
  Request request;
  request.prompt = "a";
  request.seed = 1;
  request.width = request.height = 16384;
  const auto start = [&] { pipeline.generate(resolve(request, pipeline.checkpoint(), f32)); };
  if (available_memory_bytes() > int64_t{130} << 30) GTEST_SKIP() << "this machine could draw it";
  expect_fault({"16384x16384 needs about", "for the VAE alone", "are available", "-W and -H"}, start,
               ErrorKind::kMemory);
}

}  // namespace
}  // namespace easel
