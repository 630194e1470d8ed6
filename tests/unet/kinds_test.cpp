// U-Nets of every published kind: SD2, inpainting, SDXL, its refiner, SSD-1B, Segmind-Vega, LCM, pixel-space DDPMs.
#include "unet/kinds.h"

#include "support/faults.h"

namespace easel {
namespace {

using namespace testing;

Weights drawn(const std::string& without = "") { return {std::make_shared<WithoutOne>(without), at::kCPU, at::kFloat}; }

// The size of a full-size U-Net, as diffusers counts it.
const std::map<std::string, std::size_t> kKeyCounts = {{"sd15", 686},
                                                       {"sd15-inpainting", 686},
                                                       {"sd2", 686},
                                                       {"sd2-base", 686},
                                                       {"sd2-inpainting", 686},
                                                       {"sdxl", 1680},
                                                       {"sdxl-inpainting", 1680},
                                                       {"sdxl-refiner", 1220},
                                                       {"ssd-1b", 944},
                                                       {"segmind-vega", 564},
                                                       {"ddpm-cifar10-32", 328},
                                                       {"ddpm-celebahq-256", 450}};

json full_size_config(const std::string& name) {
  const auto spec = std::filesystem::path(EASEL_SOURCE_DIR) / "models/specs" / name / "unet.json";
  return exists(spec) ? read(spec) : read(data("golden/unets.json")).at("full").at(name);
}

TEST(UNetKinds, EqualTheReference) {
  for (const auto& [name, config] : tiny_unets().items()) {
    const Tensor out = call_unet(drawn(), name, config), want = unet_calls()->load(name + ".out");
    const double difference = relative_difference(out, want);
    std::cout << name << ": largest relative difference " << difference << "\n";
    EXPECT_LE(difference, kUNetTolerance) << name;
    EXPECT_GT(want.std().item<double>(), 0.01) << name << ": a flat reference agrees with anything";
  }
}

// A tensor that is bound but not used, or bound under another's name, must show in the test above. Of each kind the
// tensors that the kinds before it do not have. Only a bias of the keys cannot matter: it adds the same to all scores
// of a query.
TEST(UNetKinds, EveryTensorMatters) {
  for (const auto& [name, prefix] :
       std::vector<std::pair<std::string, std::string>>{{"ssd-1b", ""},
                                                        {"sdxl", "mid_block."},
                                                        {"lcm", "time_embedding."},
                                                        {"ddpm-options", ""},
                                                        {"ddpm-plain-middle", "mid_block."}}) {
    const json& config = tiny_unets().at(name);
    const Tensor want = unet_calls()->load(name + ".out").narrow(0, 0, 1);
    double least = 1;
    for (const auto& [key, shape] : asked_keys(config)) {
      if (!key.starts_with(prefix) || key.ends_with("to_k.bias")) continue;
      const double difference = relative_difference(call_unet(drawn(key), name, config, 1), want);
      EXPECT_GT(difference, 50 * kUNetTolerance) << name << " without " << key;
      least = std::min(least, difference);
    }
    std::cout << name << ": least difference without a tensor " << least << "\n";
  }
}

TEST(UNetKinds, FullSizeKeysAndShapes) {
  for (const auto& [name, count] : kKeyCounts) {
    const auto want = full_size_keys(name, "unet");
    EXPECT_EQ(want.size(), count) << name;
    EXPECT_EQ(asked_keys(full_size_config(name)), want) << name;
  }
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(EASEL_SOURCE_DIR) / "models/specs"))
    EXPECT_TRUE(!entry.is_directory() || kKeyCounts.contains(entry.path().filename())) << entry.path();
}

// The embeddings of a whole run are those of its calls, of each kind of condition; but for the rounding of products of
// another size.
TEST(UNetKinds, TimesOfARunAreThoseOfItsCalls) {
  for (const auto& [name, config] : tiny_unets().items()) {
    if (is_pixel_unet(config)) continue;
    const UNetSpec spec = UNetSpec::from_json(config, name);
    const UNet unet(drawn(), spec);
    const SourcePtr calls = unet_calls();
    const auto load = [&](const char* what) { return calls->load(name + "." + what); };
    AddedConditions added;
    if (spec.text_time)
      added = {.text_embeds = load("text_embeds"), .time_ids = load("time_ids"), .guidance_scale = {}};
    if (spec.time_cond_proj_dim > 0) added.guidance_scale = 7.5;
    TimeProjections times({901, 345, 20.5, 345});
    for (const double t : {901.0, 345.0, 20.5, 7.0, 345.0}) {
      const Tensor got = unet(load("sample"), t, load("context"), added, nullptr, {.times = &times});
      EXPECT_LE(relative_difference(got, unet(load("sample"), t, load("context"), added)), 1e-5) << name << " " << t;
    }
  }
}

TEST(UNetKinds, TimesOfARunAreEmbeddedOnce) {
  TimeProjections times({9, 5, 1});
  int embedded = 0;
  const auto embed = [&](const std::vector<double>& timesteps) {
    ++embedded;
    return at::tensor(timesteps, at::kFloat).unsqueeze(1).repeat_interleave(2, 0);  // of two rows
  };
  const Linear projection(drawn(), 1, 4);
  const AddedConditions added{.text_embeds = at::ones({2, 3}), .time_ids = at::ones({2, 6}), .guidance_scale = {}};
  for (const double t : {5.0, 9.0, 1.0}) {
    const auto of_run = times.at(t, added, embed);
    ASSERT_TRUE(of_run);
    EXPECT_LE(relative_difference(of_run->through(projection), projection(at::full({2, 1}, t))), 1e-6);
  }
  EXPECT_EQ(embedded, 1);
  EXPECT_FALSE(times.at(4, added, embed)) << "not of this run";
  EXPECT_FALSE(times.at(5, {.text_embeds = at::ones({2, 3}), .time_ids = added.time_ids, .guidance_scale = {}}, embed));
  EXPECT_TRUE(times.at(5, added, embed));
  EXPECT_EQ(embedded, 1);
  EXPECT_FALSE(TimeProjections(std::vector<double>(1000, 5)).at(5, added, embed)) << "it would fill memory";
}

// Twice the numbers of the same conditions in another order: nothing but the order tells heights from widths.
TEST(UNetKinds, OrderOfTimeIdsMatters) {
  const json config = tiny_unets().at("sdxl");
  const UNet unet(drawn(), UNetSpec::from_json(config, "sdxl"));
  const SourcePtr calls = unet_calls();
  const auto load = [&](const char* what) { return calls->load(std::string("sdxl.") + what); };
  const AddedConditions given{.text_embeds = load("text_embeds"), .time_ids = load("time_ids"), .guidance_scale = {}};
  AddedConditions swapped = given;
  swapped.time_ids = given.time_ids.index_select(1, at::tensor({1, 0, 3, 2, 5, 4}, at::kLong));
  const Tensor out = unet(load("sample"), 345, load("context"), given);
  EXPECT_GT(relative_difference(unet(load("sample"), 345, load("context"), swapped), out), 1e-2);
}

TEST(UNetKinds, ConditionsMustFitTheNetwork) {
  const SourcePtr calls = unet_calls();
  const auto load = [&](const char* what) { return calls->load(std::string("sdxl.") + what); };
  const UNet sdxl(drawn(), UNetSpec::from_json(tiny_unets().at("sdxl"), "sdxl"));
  const auto call = [&](const AddedConditions& added) { return sdxl(load("sample"), 345, load("context"), added); };
  const Tensor pooled = load("text_embeds"), ids = load("time_ids");
  EXPECT_NO_THROW(call({.text_embeds = pooled, .time_ids = ids, .guidance_scale = {}}));
  EXPECT_THROW(call({}), c10::Error);
  EXPECT_THROW(call({.text_embeds = pooled, .time_ids = ids.narrow(1, 0, 5), .guidance_scale = {}}), c10::Error);
  EXPECT_THROW(call({.text_embeds = pooled, .time_ids = ids, .guidance_scale = 7.5}), c10::Error);
  const UNet sd2(drawn(), UNetSpec::from_json(tiny_unets().at("sd2"), "sd2"));
  EXPECT_THROW(
      sd2(load("sample"), 345, load("context"), {.text_embeds = pooled, .time_ids = ids, .guidance_scale = {}}),
      c10::Error);
}

TEST(UNetKinds, TimeIdCounts) {
  EXPECT_EQ(UNetSpec::from_json(full_size_config("sdxl"), "sdxl").time_id_count(1280), 6);
  EXPECT_EQ(UNetSpec::from_json(full_size_config("sdxl-refiner"), "sdxl-refiner").time_id_count(1280), 5);
  EXPECT_EQ(UNetSpec::from_json(full_size_config("sdxl"), "sdxl").time_id_count(1000), 0);
}

TEST(UNetKinds, InHalfPrecisionNear) {
  for (const std::string name : {"sdxl", "ddpm-options"}) {
    const json config = tiny_unets().at(name);
    const Tensor want = unet_calls()->load(name + ".out");
    const SourcePtr source = std::make_shared<WithoutOne>("");
    const Weights w(source, at::kCPU, at::kBFloat16);
    const SourcePtr calls = unet_calls();
    const auto load = [&](const char* what) { return calls->load(name + "." + what).to(at::kBFloat16); };
    const Tensor out = is_pixel_unet(config)
                           ? UNet2D(w, UNet2DSpec::from_json(config, name))(load("sample"), 345)
                           : UNet(w, UNetSpec::from_json(config, name))(load("sample"), 345, load("context"),
                                                                        {.text_embeds = load("text_embeds"),
                                                                         .time_ids = calls->load(name + ".time_ids"),
                                                                         .guidance_scale = {}});
    EXPECT_EQ(out.scalar_type(), at::kBFloat16);
    EXPECT_LE(relative_difference(out.to(at::kFloat), want), 0.1) << name;
  }
}

// google/ddpm-* were saved before diffusers 0.12.
TEST(UNet2D, OldAttentionNames) {
  const std::string name = "ddpm-cifar10-32";
  const json config = tiny_unets().at(name);
  std::vector<std::pair<std::string, Tensor>> tensors;
  int renamed = 0;
  for (const auto& [key, shape] : asked_keys(config)) {
    std::string old = key;
    for (const auto& [now, then] :
         {std::pair{"to_q", "query"}, {"to_k", "key"}, {"to_v", "value"}, {"to_out.0", "proj_attn"}}) {
      if (const auto at = old.find(now); at != std::string::npos)
        old.replace(at, std::string(now).size(), then), ++renamed;
    }
    tensors.emplace_back(old, random_weight("unet/" + key, shape, 0));
  }
  EXPECT_EQ(renamed, 6 * 8);  // two attentions down, three up, one in the middle; weight and bias
  const auto file = std::filesystem::path(::testing::TempDir()) / "easel-old-unet.safetensors";
  write_safetensors(file, tensors);
  const Weights w(open_safetensors(file), at::kCPU, at::kFloat);
  const Tensor out = call_unet(w, name, config);
  EXPECT_NO_THROW(w.finish("unet", [](const std::string&) { return false; }));
  EXPECT_LE(relative_difference(out, unet_calls()->load(name + ".out")), kUNetTolerance);
  std::filesystem::remove(file);
}

// {tiny U-Net, field, its value, a word of the refusal}
struct Refusal {
  const char* name;
  const char* field;
  json value;
  const char* word;
};

TEST(UNetKinds, RefusedByName) {
  for (const auto& [name, field, value, word] : std::vector<Refusal>{
           {"sdxl", "addition_embed_type", "text_image", "text_time"},
           {"sdxl", "addition_time_embed_dim", nullptr, "whole number"},
           {"sdxl", "projection_class_embeddings_input_dim", nullptr, "whole number"},
           {"sdxl", "transformer_layers_per_block", {1, 2}, "3 entries"},
           {"sdxl", "transformer_layers_per_block", {1, {2, 2}, 10}, "reverse_transformer_layers_per_block"},
           {"sdxl", "mid_block_type", "UNetMidBlock2DSimpleCrossAttn", "UNetMidBlock2DCrossAttn"},
           {"sdxl", "cross_attention_dim", {24, 24, 32}, "only one width"},
           {"ssd-1b", "reverse_transformer_layers_per_block", {{3, 1}, {1, 2, 1}, 1}, "list of 3"},
           {"sdxl-refiner", "transformer_layers_per_block", {1, 1, 1, "x"}, "middle block"},
           {"lcm", "time_cond_proj_dim", 1, "whole number"},
           {"ddpm-options", "class_embed_type", "timestep", "only null"},
           {"ddpm-options", "num_class_embeds", 10, "only null"},
           {"ddpm-options", "time_embedding_type", "fourier", "only \"positional\""},
           {"ddpm-options",
            "down_block_types",
            {"SkipDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"},
            "AttnDownBlock2D"},
           {"ddpm-options", "up_block_types", {"UpBlock2D"}, "as many as"},
           {"ddpm-options", "attention_head_dim", 24, "divide"},
           {"ddpm-options", "attn_norm_num_groups", 5, "divide"},
           {"ddpm-options", "resnet_time_scale_shift", "scale_shift", "default"},
           {"ddpm-options", "downsample_type", "resnet", "conv"},
           {"ddpm-options", "mid_block_type", "UNetMidBlock2DCrossAttn", "UNetMidBlock2D"},
           {"ddpm-options", "sample_size", nullptr, "whole number"},
       }) {
    expect_field_refused(tiny_unets().at(name), field, value, {word}, [](const json& file) {
      if (is_pixel_unet(file))
        UNet2DSpec::from_json(file, "config.json");
      else
        UNetSpec::from_json(file, "config.json");
    });
  }
}

}  // namespace
}  // namespace easel
