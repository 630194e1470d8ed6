#include "easel/vae.h"

#include "support/faults.h"
#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;

VaeSpec spec_of(const std::string& model) { return VaeSpec::from_json(config(model, "vae"), model); }

TEST(Vae, DecodeEqualsTheReference) {
  for (const std::string& model : tiny_models()) {
    const VaeSpec spec = spec_of(model);
    const VaeDecoder decoder(weights("vae"), spec);
    // The reference's latent is the network's own, already divided by the factor.
    const Tensor latent = stages(model)->load("vae.decode.latent") * spec.scaling_factor;
    expect_stage(model, decoder(latent), stages(model)->load("vae.decode.out"));
  }
}

TEST(Vae, EncodeEqualsTheReference) {
  for (const std::string& model : tiny_models()) {
    const VaeSpec spec = spec_of(model);
    const VaeEncoder encoder(weights("vae"), spec);
    const LatentPosterior q = encoder(stages(model)->load("vae.encode.picture"));
    expect_stage(model + " mean", q.mean, stages(model)->load("vae.encode.mean"));
    expect_stage(model + " std", q.std, stages(model)->load("vae.encode.std"));
    const Tensor noise = at::randn(q.mean.sizes());
    const Tensor want = (q.mean + q.std * noise - spec.shift_factor) * spec.scaling_factor;
    EXPECT_LE(relative_difference(encoder.sample(q, noise), want), 1e-6);
  }
}

TEST(Vae, ShiftIsAddedAfterScaling) {
  VaeSpec spec = spec_of("sd1-odd");
  const Tensor latent = at::randn({1, 4, 6, 6});
  const Tensor plain = VaeDecoder(weights("vae"), spec)(latent + 0.25 * spec.scaling_factor);
  spec.shift_factor = 0.25;
  EXPECT_LE(relative_difference(VaeDecoder(weights("vae"), spec)(latent), plain), 1e-5);
}

TEST(Vae, OldAttentionNames) {
  const VaeSpec spec = spec_of("sd1");
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  VaeDecoder(shapes, spec), VaeEncoder(shapes, spec);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, shape] : shapes.binding().asked) {
    std::string old = name;
    for (const auto& [now, then] :
         {std::pair{"to_q", "query"}, {"to_k", "key"}, {"to_v", "value"}, {"to_out.0", "proj_attn"}}) {
      if (const auto at = old.find(now); at != std::string::npos) old.replace(at, std::string(now).size(), then);
    }
    tensors.emplace_back(old, random_weight("vae/" + name, shape, 0));
  }
  const auto file = std::filesystem::path(::testing::TempDir()) / "easel-old-names.safetensors";
  write_safetensors(file, tensors);
  const Weights w(open_safetensors(file), at::kCPU, at::kFloat);
  const VaeDecoder decoder(w, spec);
  const VaeEncoder encoder(w, spec);
  EXPECT_NO_THROW(w.finish("vae", [](const std::string&) { return false; }));
  const Tensor latent = stages("sd1")->load("vae.decode.latent") * spec.scaling_factor;
  expect_stage("old names", decoder(latent), stages("sd1")->load("vae.decode.out"));
  std::filesystem::remove(file);
}

// LDM files keep the attention's linear layers as 1x1 convolutions.
TEST(Vae, AttentionOfConvolutionShape) {
  const VaeSpec spec = spec_of("sd1");
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  VaeDecoder(shapes, spec);
  std::vector<std::pair<std::string, Tensor>> tensors;
  int reshaped = 0;
  for (const auto& [name, shape] : shapes.binding().asked) {
    Tensor tensor = random_weight("vae/" + name, shape, 0);
    if (name.find("attentions.0.to_") != std::string::npos && tensor.dim() == 2) {
      tensor = tensor.unsqueeze(-1).unsqueeze(-1);
      ++reshaped;
    }
    tensors.emplace_back(name, tensor);
  }
  EXPECT_EQ(reshaped, 4);
  const auto file = std::filesystem::path(::testing::TempDir()) / "easel-convolutions.safetensors";
  write_safetensors(file, tensors);
  const Weights w(open_safetensors(file), at::kCPU, at::kFloat);
  const VaeDecoder decoder(w, spec);
  EXPECT_NO_THROW(w.finish("vae", [](const std::string&) { return false; }));
  const Tensor latent = stages("sd1")->load("vae.decode.latent") * spec.scaling_factor;
  expect_stage("1x1 convolutions", decoder(latent), stages("sd1")->load("vae.decode.out"));
  std::filesystem::remove(file);
}

TEST(Vae, LatentsOfOtherWidths) {
  json file = config("sd1", "vae");
  file["latent_channels"] = 16;
  const VaeSpec spec = VaeSpec::from_json(file, "vae");
  const Tensor picture = at::randn({1, 3, 4 * spec.factor(), 2 * spec.factor()});
  const LatentPosterior q = VaeEncoder(weights("vae"), spec)(picture);
  EXPECT_EQ(to_string(q.mean.sizes()), to_string({1, 16, 4, 2}));
  EXPECT_EQ(to_string(VaeDecoder(weights("vae"), spec)(q.mean).sizes()), to_string(picture.sizes()));
}

// models/specs: every family's VAE has SD1.5's tensors, but its own numbers.
TEST(Vae, FullSizeKeysAndFactors) {
  const json want = read(data("golden/keys.sd15.json")).at("vae"), folded = read(data("golden/keys.full.json"));
  EXPECT_EQ(want.size(), 248u);
  int families = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(EASEL_SOURCE_DIR) / "models/specs")) {
    if (!entry.is_directory()) continue;
    const std::string name = entry.path().filename();
    const VaeSpec spec = VaeSpec::from_json(read(entry.path() / "vae.json"), name);
    const Weights shapes(nullptr, at::kMeta, at::kFloat);
    VaeDecoder(shapes, spec), VaeEncoder(shapes, spec);
    EXPECT_EQ(json(shapes.binding().asked), want) << name;
    EXPECT_TRUE(name == "sd15" || folded.at(name).at("vae") == "sd15") << name << ": the reference's differs";
    const bool xl = name.starts_with("sdxl") || name == "ssd-1b" || name == "segmind-vega";
    EXPECT_EQ(spec.scaling_factor, xl ? 0.13025 : 0.18215) << name;
    EXPECT_EQ(spec.shift_factor, 0) << name;
    EXPECT_EQ(spec.factor(), 8) << name;
    EXPECT_TRUE(spec.force_upcast) << name;
    ++families;
  }
  EXPECT_EQ(families, 10);
}

TEST(VaeSpec, RefusesByName) {
  for (const auto& [field, value] : std::vector<std::pair<std::string, json>>{{"act_fn", "relu"},
                                                                              {"latents_mean", {0, 1, 2, 3}},
                                                                              {"latents_std", {1, 1, 1, 1}},
                                                                              {"down_block_types", {"DownBlock2D"}},
                                                                              {"scaling_factor", 0},
                                                                              {"scaling_factor", "big"},
                                                                              {"norm_num_groups", 7},
                                                                              {"latent_channels", 0},
                                                                              {"block_out_channels", json::array()}}) {
    expect_field_refused(config("sd1", "vae"), field, value, {"vae/config.json: " + field},
                         [](const json& file) { VaeSpec::from_json(file, "vae/config.json"); });
  }
}

}  // namespace
}  // namespace easel
