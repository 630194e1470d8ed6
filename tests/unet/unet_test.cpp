#include "support/fake_graphs.h"
#include "support/faults.h"
#include "unet/kinds.h"
#include "unet/transformer.h"

namespace easel {
namespace {

using namespace testing;

UNetSpec spec_of(const std::string& model) { return UNetSpec::from_json(config(model, "unet"), model); }

TEST(UNet, EqualsTheReference) {
  for (const std::string& model : tiny_models()) {
    const UNet unet(weights("unet"), spec_of(model));
    const SourcePtr golden = stages(model);
    for (const std::string size : {"odd", "even"}) {
      const auto load = [&](const char* what) { return golden->load("unet." + size + "." + what); };
      const Tensor out = unet(load("sample"), load("timestep").item<double>(), golden->load("unet.context"));
      expect_stage(model + " " + size, out, load("out"));
    }
  }
}

// A bias, a skip or a norm that is left out must show in the parity test: the weights are drawn for that.
TEST(UNet, EveryTensorMatters) {
  const UNetSpec spec = spec_of("sd1-odd");
  const SourcePtr golden = stages("sd1-odd");
  const auto out_of = [&](const std::string& without) {
    const UNet unet(Weights(std::make_shared<WithoutOne>(without), at::kCPU, at::kFloat), spec);
    const Tensor sample = golden->load("unet.odd.sample").narrow(0, 0, 1),
                 context = golden->load("unet.context").narrow(0, 0, 1);
    return unet(sample, golden->load("unet.odd.timestep").item<double>(), context);
  };
  const Tensor want = golden->load("unet.odd.out").narrow(0, 0, 1);
  ASSERT_LE(relative_difference(out_of("none"), want), kStageTolerance);
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  UNet{shapes, spec};
  for (const auto& [name, shape] : shapes.binding().asked)
    EXPECT_GT(relative_difference(out_of(name), want), 5 * kStageTolerance) << name;
}

TEST(UNet, TimestepEmbeddingEqualsTheReference) {
  for (const std::string& model : tiny_models()) {
    const UNetSpec spec = spec_of(model);
    const SourcePtr golden = stages(model);
    const Tensor timesteps = golden->load("unet.time.timesteps"), want = golden->load("unet.time.proj");
    for (int64_t i = 0; i < timesteps.size(0); ++i) {
      const Tensor got = timestep_embedding(timesteps[i].item<double>(), spec.levels.front().channels,
                                            spec.flip_sin_to_cos, spec.freq_shift);
      EXPECT_LE((got[0] - want[i]).abs().max().item<double>(), 1e-4) << model << " t " << timesteps[i];
    }
  }
}

TEST(UNet, BatchRowsDoNotMix) {
  const UNet unet(weights("unet"), spec_of("sd1"));
  const Tensor x = at::randn({2, 4, 9, 7}), context = at::randn({2, 77, 32});
  const Tensor both = unet(x, 500, context);
  for (int64_t i = 0; i < 2; ++i)
    EXPECT_LE(relative_difference(unet(x.narrow(0, i, 1), 500, context.narrow(0, i, 1)), both.narrow(0, i, 1)), 1e-4);
}

// What was kept of a call is what the same call would compute; of another call it is not.
TEST(UNet, ReusesItsDeepLayers) {
  const UNetSpec spec = spec_of("sd1");
  const UNet unet(weights("unet"), spec);
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{8, 8}, {9, 7}}) {
    const Tensor x = at::randn({2, 4, height, width}), other = at::randn({2, 4, height, width});
    const Tensor context = at::randn({2, 77, 32}), want = unet(x, 500, context);
    for (int64_t branch = 0; branch + 1 < spec.skips(); ++branch) {
      DeepFeature deep{.branch = branch, .is_reused = false, .x = {}};
      EXPECT_TRUE(at::equal(unet(x, 500, context, {}, nullptr, {.deep = &deep}), want));
      deep.is_reused = true;
      EXPECT_LE(relative_difference(unet(x, 500, context, {}, nullptr, {.deep = &deep}), want), 1e-6) << branch;
      EXPECT_GT(relative_difference(unet(other, 500, context, {}, nullptr, {.deep = &deep}), unet(other, 500, context)),
                1e-4);
    }
  }
}

// Of the shapes of a way down that begins with x.
ControlResiduals random_control(const UNetSpec& spec, const Tensor& x) {
  int64_t height = x.size(2), width = x.size(3);
  ControlResiduals control;
  const auto add = [&](int64_t channels) {
    control.down.push_back(0.1 * at::randn({x.size(0), channels, height, width}));
  };
  add(spec.levels.front().channels);
  for (std::size_t i = 0; i < spec.levels.size(); ++i) {
    for (int64_t layer = 0; layer < spec.levels[i].layers; ++layer) add(spec.levels[i].channels);
    if (i + 1 == spec.levels.size()) break;
    height = (height + 1) / 2, width = (width + 1) / 2;
    add(spec.levels[i].channels);
  }
  control.mid = 0.1 * at::randn_like(control.down.back());
  return control;
}

// Whatever changes from call to call reaches a graph: the noise, the timestep, the control; and another text, another
// batch and a call that reuses its deep layers are no replay of what they are not.
TEST(UNet, CallsThroughGraphsAreTheCallsThemselves) {
  const UNetSpec spec = spec_of("sd1");
  const UNet unet(weights("unet"), spec);
  const Tensor first = at::randn({2, 77, 32}), second = at::randn({2, 77, 32}), one = at::randn({1, 77, 32});
  for (const bool is_all : {false, true}) {  // with control and deep layers
    GraphCounts counts;
    StepGraphs graphs(std::make_unique<FakeGraphs>(counts));
    TextProjections kept, kept_too;
    DeepFeature deep{.branch = 1, .is_reused = false, .x = {}}, deep_too = deep;
    int call = 0;
    for (const Tensor& text : {first, second, one}) {
      for (int i = 0; i < 6; ++i, ++call) {
        const Tensor x = at::randn({text.size(0), 4, 5, 4});
        const ControlResiduals control = random_control(spec, x);
        deep.is_reused = deep_too.is_reused = i % 2 == 1;
        const auto run = [&](TextProjections& projections, DeepFeature& feature, StepGraphs* through) {
          return unet(x, 900 - 7 * call, text, {}, is_all ? &control : nullptr,
                      {.deep = is_all ? &feature : nullptr, .texts = &projections, .graphs = through});
        };
        EXPECT_TRUE(at::equal(run(kept, deep, &graphs), run(kept_too, deep_too, nullptr))) << call << " " << is_all;
      }
    }
    EXPECT_EQ(counts.captures, is_all ? 6 : 3) << "of each text, and with deep layers of both kinds";
    EXPECT_EQ(counts.replays, is_all ? 12 : 15);
  }
}

// As on a CUDA device. No difference was seen on an x86 processor.
TEST(Attention, FusedProjectionsAreTheThreeOfThem) {
  const int64_t width = spec_of("sd1").levels.front().channels, heads = spec_of("sd1").levels.front().heads;
  const Weights w = weights("unet") / "down_blocks" / 0 / "attentions" / 0 / "transformer_blocks" / 0 / "attn1";
  const Attention separate(w, width, width, heads);
  Attention fused = separate;
  fused.fuse_projections();
  ASSERT_TRUE(fused.to_qkv);
  EXPECT_EQ(fused.to_qkv->weight.sizes(), at::IntArrayRef({3 * width, width}));
  for (const Linear* linear : {&fused.to_q, &fused.to_k, &fused.to_v})
    EXPECT_FALSE(linear->weight.defined()) << "the memory of the three weights is kept";
  const Tensor x = at::randn({2, 35, width});
  EXPECT_LE(relative_difference(fused.of_itself(x), separate.of_itself(x)), 1e-6);

  const Attention packed(w.packed(), width, width, heads);
  Attention joined = packed;
  joined.fuse_projections();
  EXPECT_LE(relative_difference(joined.of_itself(x), packed.of_itself(x)), 1e-6);

  Attention with_lora = separate;
  with_lora.to_k.changes.push_back({at::randn({2, width}), at::randn({width, 2}), 1.0});
  const Tensor changed = with_lora.of_itself(x);
  with_lora.fuse_projections();
  EXPECT_FALSE(with_lora.to_qkv) << "a LoRA beside the weight would be lost";
  EXPECT_TRUE(at::equal(with_lora.of_itself(x), changed));
}

// The projections of one text are computed by its first call alone: what is then written into the text's own memory is
// not seen. Another text has its own.
TEST(UNet, ProjectsATextOnce) {
  const UNet unet(weights("unet"), spec_of("sd1"));
  const Tensor x = at::randn({2, 4, 9, 7}), other = at::randn({2, 77, 32});
  Tensor text = at::randn({2, 77, 32});
  TextProjections kept;
  const auto with_kept = [&](const Tensor& context) { return unet(x, 500, context, {}, nullptr, {.texts = &kept}); };
  const Tensor want = unet(x, 500, text);
  EXPECT_TRUE(at::equal(with_kept(text), want));
  text.copy_(other);
  EXPECT_TRUE(at::equal(with_kept(text), want));
  EXPECT_TRUE(at::equal(with_kept(other), unet(x, 500, other)));
  EXPECT_TRUE(at::equal(with_kept(other.narrow(0, 0, 1).expand({2, -1, -1})),
                        unet(x, 500, other.narrow(0, 0, 1).expand({2, -1, -1}))));
}

// SDXL's text where there is no negative prompt: what attends to zeros is not computed, and is what it would have been
// but for the rounding of products of another batch.
TEST(UNet, TextsOfZeros) {
  const UNet unet(weights("unet"), spec_of("sd1"));
  for (const std::vector<bool>& is_zero : std::vector<std::vector<bool>>{
           {true, false}, {true, true, false, false}, {false, true}, {true, false, true}, {true}, {true, true}}) {
    const auto batch = static_cast<int64_t>(is_zero.size());
    const Tensor x = at::randn({batch, 4, 9, 7});
    Tensor text = at::randn({batch, 77, 32});
    for (int64_t i = 0; i < batch; ++i)
      if (is_zero[static_cast<std::size_t>(i)]) text[i].zero_();
    TextProjections kept;
    for (int call = 0; call < 2; ++call)
      EXPECT_LE(relative_difference(unet(x, 500, text, {}, nullptr, {.texts = &kept}), unet(x, 500, text)), 1e-5);
  }
}

TEST(UNet, SmallestAndOddSizes) {
  const UNet unet(weights("unet"), spec_of("sd1"));
  for (const int64_t height : {1, 2, 3, 8, 13}) {
    for (const int64_t width : {1, 5, 16}) {
      const Tensor out = unet(at::randn({1, 4, height, width}), 10, at::randn({1, 77, 32}));
      EXPECT_EQ(to_string(out.sizes()), to_string({1, 4, height, width}));
      EXPECT_TRUE(at::isfinite(out).all().item<bool>());
    }
  }
}

TEST(UNet, HalfPrecisionIsNear) {
  const UNetSpec spec = spec_of("sd1");
  const SourcePtr golden = stages("sd1");
  const auto load = [&](const char* what) { return golden->load(std::string("unet.even.") + what); };
  for (const auto& [dtype, tolerance] : {std::pair{at::kBFloat16, 0.1}, std::pair{at::kHalf, 0.02}}) {
    const UNet unet(weights("unet", dtype), spec);
    const Tensor out =
        unet(load("sample").to(dtype), load("timestep").item<double>(), golden->load("unet.context").to(dtype));
    EXPECT_EQ(out.scalar_type(), dtype);
    EXPECT_LE(relative_difference(out.to(at::kFloat), load("out")), tolerance) << dtype;
  }
}

TEST(UNetSpec, RefusesByName) {
  const auto refused = [](const std::string& field, const json& value, const std::string& word) {
    expect_field_refused(config("sd1", "unet"), field, value, {"unet/config.json: " + field, word},
                         [](const json& file) { UNetSpec::from_json(file, "unet/config.json"); });
  };
  refused("class_embed_type", "timestep", "only null");
  refused("addition_embed_type", "image", "text_time");
  refused("act_fn", "gelu", "only \"silu\"");
  refused("dual_cross_attention", true, "only false");
  refused("resnet_time_scale_shift", "scale_shift", "default");
  refused("conv_in_kernel", 5, "only 3");
  refused("down_block_types", {"DownBlock2D"}, "as many as");
  refused("down_block_types", {"AttnDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"}, "CrossAttnDownBlock2D");
  refused("block_out_channels", "32", "list");
  refused("block_out_channels", {0, 1, 2, 3}, "list");
  refused("norm_num_groups", 7, "divide");
  refused("attention_head_dim", 7, "divide");
  refused("attention_head_dim", {8, 8}, "list of 4");
  refused("cross_attention_dim", nullptr, "whole number");
  refused("cross_attention_dim", -1, "whole number");
  refused("norm_eps", "small", "number");
}

TEST(UNetSpec, AllFaultsAtOnce) {
  json file = config("sd1", "unet");
  file["act_fn"] = "gelu";
  file["norm_eps"] = "x";
  try {
    UNetSpec::from_json(file, "f");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.faults().size(), 2u);
  }
}

}  // namespace
}  // namespace easel
