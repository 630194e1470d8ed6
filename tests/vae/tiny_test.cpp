// AutoencoderTiny (TAESD) against diffusers 0.42.1 on the CPU in float32.
#include "support/faults.h"
#include "support/taesd.h"

namespace easel {
namespace {

using namespace testing;

// Seen: up to 1e-6.
constexpr double kTolerance = 4e-6;

Weights weights_of(int number, at::ScalarType dtype = at::kFloat) {
  return Weights(tensor_source(taesd_tensors(number), "taesd"), at::kCPU, dtype);
}

// As a pipeline binds them, and as they are.
std::vector<Weights> forms_of(int number) { return {weights_of(number), weights_of(number).packed()}; }

TEST(TinyVae, DecodeEqualsTheReference) {
  const SourcePtr values = taesd_values();
  for (const int number : {0, 1}) {
    const VaeSpec spec = taesd_spec(number);
    const std::string key = std::to_string(number);
    for (const Weights& w : forms_of(number)) {
      // The reference's latent is the network's own.
      const Tensor latent = (values->load(key + ".latent") - spec.shift_factor) * spec.scaling_factor;
      const Tensor want = values->load(key + ".decoded"), got = VaeDecoder(w, spec)(latent);
      std::cout << "decode " << key << ": " << relative_difference(got, want) << "\n";
      EXPECT_LE(relative_difference(got, want), kTolerance) << key;
      EXPECT_GT(want.std().item<double>(), 0.1) << "a flat reference agrees with anything";
    }
  }
}

TEST(TinyVae, EncodeEqualsTheReference) {
  const SourcePtr values = taesd_values();
  for (const int number : {0, 1}) {
    const VaeSpec spec = taesd_spec(number);
    const std::string key = std::to_string(number);
    for (const Weights& w : forms_of(number)) {
      const VaeEncoder encoder(w, spec);
      const LatentPosterior q = encoder(values->load(key + ".picture"));
      const Tensor want = values->load(key + ".encoded");
      std::cout << "encode " << key << ": " << relative_difference(q.mean, want) << "\n";
      EXPECT_LE(relative_difference(q.mean, want), kTolerance) << key;
      EXPECT_FALSE(q.std.defined());
      const Tensor scaled = (q.mean - spec.shift_factor) * spec.scaling_factor;
      EXPECT_LE(relative_difference(encoder.sample(q, {}), scaled), 1e-6);
    }
  }
}

TEST(TinyVae, EveryTensorIsBound) {
  for (const int number : {0, 1}) {
    const Weights w = weights_of(number);
    VaeDecoder(w, taesd_spec(number)), VaeEncoder(w, taesd_spec(number));
    EXPECT_NO_THROW(w.finish("vae", [](const std::string&) { return false; }));
  }
}

TEST(TinyVae, FullSizeKeys) {
  const VaeSpec spec = VaeSpec::from_json({{"_class_name", "AutoencoderTiny"}}, "config.json");
  const Weights shapes(nullptr, at::kMeta, at::kFloat);
  VaeDecoder(shapes, spec), VaeEncoder(shapes, spec);
  EXPECT_EQ(json(shapes.binding().asked), taesd().at("keys"));
  EXPECT_EQ(spec.factor(), 8);
  EXPECT_EQ(spec.scaling_factor, 1.0);
  EXPECT_FALSE(spec.force_upcast);
}

TEST(TinyVae, StripsAreTheWholePicture) {
  for (const int number : {0, 1}) {
    const VaeSpec spec = taesd_spec(number);
    const Weights w = weights_of(number);
    const VaeDecoder decoder(w, spec);
    const VaeEncoder encoder(w, spec);
    for (const auto& [height, width] : {std::pair<int64_t, int64_t>{9, 5}, {1, 1}}) {
      const Tensor latent = at::randn({2, spec.latent_channels, height, width});
      const Tensor picture = at::rand({2, 3, height * spec.factor(), width * spec.factor()}) * 2 - 1;
      for (const int64_t bytes : {int64_t{1}, int64_t{1} << 15}) {
        EXPECT_LE(relative_difference(decoder.in_strips(latent, bytes), decoder(latent)), 2e-6) << bytes;
        EXPECT_LE(relative_difference(encoder.in_strips(picture, bytes).mean, encoder(picture).mean), 2e-6) << bytes;
      }
    }
  }
}

TEST(TinyVae, TilesCoverThePicture) {
  const VaeSpec spec = taesd_spec(0);
  const VaeDecoder decoder(weights_of(0), spec);
  const Tensor latent = at::randn({1, 4, 20, 25}), whole = decoder(latent);
  EXPECT_LE(relative_difference(decoder.in_tiles(latent, 25), whole), 1e-6);
  const Tensor tiled = decoder.in_tiles(latent, 16);
  ASSERT_EQ(to_string(tiled.sizes()), to_string(whole.sizes()));
  EXPECT_LE(((tiled - whole).abs().mean() / whole.abs().mean()).item<double>(), 0.05);
}

TEST(TinyVae, HalfPrecisionStaysNear) {
  const VaeSpec spec = taesd_spec(0);
  const Tensor latent = at::randn({1, 4, 12, 9});
  const Tensor whole = VaeDecoder(weights_of(0), spec)(latent);
  const Tensor got = VaeDecoder(weights_of(0, at::kBFloat16).packed(), spec)(latent.to(at::kBFloat16));
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LE(relative_difference(got.to(at::kFloat), whole), 0.05);
}

// ---- configs ------------------------------------------------------------------------------------------------------

TEST(TinyVaeConfig, FollowsFromTheTensors) {
  for (const int number : {0, 1}) {
    const auto told = tiny_vae_config(*tensor_source(taesd_tensors(number), "taesd"));
    ASSERT_TRUE(told);
    for (const char* field : {"encoder_block_out_channels", "decoder_block_out_channels", "num_encoder_blocks",
                              "num_decoder_blocks", "latent_channels"}) {
      const json config = taesd_config(number);
      EXPECT_EQ(told->at(field), config.value(field, told->at(field))) << field;
    }
    EXPECT_EQ(told->at("latent_channels"), number == 0 ? 4 : 16);
  }
  EXPECT_FALSE(tiny_vae_config(*tensor_source({{"decoder.conv_in.weight", at::zeros({8, 4, 3, 3})}}, "KL")));
  EXPECT_FALSE(tiny_vae_config(*tensor_source({{"decoder.layers.0.weight", at::zeros({8})}}, "no convolution")));
}

TEST(TinyVaeConfig, RefusesByName) {
  const std::vector<std::pair<std::string, json>> changes = {{"act_fn", "gelu"},
                                                             {"upsample_fn", "bilinear"},
                                                             {"upsampling_scaling_factor", 4},
                                                             {"scaling_factor", 0},
                                                             {"latent_channels", "four"},
                                                             {"num_encoder_blocks", {1, 2}},
                                                             {"num_decoder_blocks", {1, 0, 1, 1}},
                                                             {"encoder_block_out_channels", {16, 16, 16, 32}},
                                                             {"decoder_block_out_channels", {8, 16, 16, 16}}};
  json all = taesd_config(0);
  for (const auto& [field, value] : changes) {
    all[field] = value;
    expect_field_refused(taesd_config(0), field, value, {"vae/config.json: " + field},
                         [](const json& file) { VaeSpec::from_json(file, "vae/config.json"); });
  }
  const auto error = error_of("all of them", [&] { VaeSpec::from_json(all, "vae/config.json"); });
  ASSERT_TRUE(error);
  EXPECT_GE(error->faults().size(), changes.size()) << "all at once";
}

}  // namespace
}  // namespace easel
