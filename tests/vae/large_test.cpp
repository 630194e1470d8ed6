// Large pictures in bounded memory against the plain networks.
#include "easel/vae.h"
#include "support/golden.h"

namespace easel {
namespace {

using namespace testing;

VaeSpec spec_of(const std::string& model) { return VaeSpec::from_json(config(model, "vae"), model); }

// From strips of four rows, the fewest, to one strip.
constexpr int64_t kStripSizes[] = {1, 1 << 16, 1 << 30};

TEST(VaeStrips, DecodeAsTheWholePicture) {
  for (const std::string& model : tiny_models()) {
    const VaeDecoder decoder(weights("vae"), spec_of(model));
    for (const Shape& shape : {Shape{1, 4, 9, 7}, Shape{2, 4, 4, 5}, Shape{1, 4, 1, 1}}) {
      const Tensor latent = at::randn(shape);
      const Tensor want = decoder(latent);
      for (const int64_t bytes : kStripSizes)
        EXPECT_LE(relative_difference(decoder.in_strips(latent, bytes), want), 2e-5) << model << " " << bytes;
    }
  }
}

TEST(VaeStrips, EncodeAsTheWholePicture) {
  for (const std::string& model : tiny_models()) {
    const VaeSpec spec = spec_of(model);
    const VaeEncoder encoder(weights("vae"), spec);
    const int64_t f = spec.factor();
    for (const Shape& shape : {Shape{1, 3, 7 * f, 5 * f}, Shape{2, 3, 3 * f, 4 * f}, Shape{1, 3, f, f}}) {
      const Tensor picture = at::rand(shape) * 2 - 1;
      const LatentPosterior want = encoder(picture);
      for (const int64_t bytes : kStripSizes) {
        const LatentPosterior got = encoder.in_strips(picture, bytes);
        EXPECT_LE(relative_difference(got.mean, want.mean), 2e-5) << model << " " << bytes;
        EXPECT_LE(relative_difference(got.std, want.std), 2e-5) << model << " " << bytes;
      }
    }
  }
}

TEST(VaeStrips, HalfPrecisionStaysNear) {
  const VaeSpec spec = spec_of("sd1");
  const VaeDecoder decoder(weights("vae", at::kBFloat16), spec);
  const Tensor latent = at::randn({1, 4, 12, 9}).to(at::kBFloat16);
  const Tensor got = decoder.in_strips(latent, 1 << 14);
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LE(relative_difference(got.to(at::kFloat), decoder(latent).to(at::kFloat)), 0.05);
}

TEST(VaeTiles, OneTileIsTheWholePicture) {
  const VaeDecoder decoder(weights("vae"), spec_of("sd1"));
  const Tensor latent = at::randn({1, 4, 9, 12});
  EXPECT_LE(relative_difference(decoder.in_tiles(latent, 12), decoder(latent)), 1e-6);
}

// Statistics differ from tile to tile, so only the size and the rough likeness can be asked for.
TEST(VaeTiles, CoverEveryPixelAndResembleThePicture) {
  const VaeDecoder decoder(weights("vae"), spec_of("sd1"));
  for (const Shape& shape : {Shape{1, 4, 20, 33}, Shape{2, 4, 16, 17}}) {
    const Tensor latent = at::randn(shape);
    const Tensor got = decoder.in_tiles(latent, 16), want = decoder(latent);
    ASSERT_EQ(to_string(got.sizes()), to_string(want.sizes()));
    EXPECT_TRUE(at::isfinite(got).all().item<bool>());
    const Tensor both = at::stack({got.flatten(), want.flatten()});
    EXPECT_GT(at::corrcoef(both)[0][1].item<double>(), 0.9);
  }
}

}  // namespace
}  // namespace easel
