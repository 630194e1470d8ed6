// The bundled model's VAE strip by strip and in tiles against the whole picture, on pictures and on noise.
#include "pipeline/beginning.h"
#include "pipeline/drawing.h"

namespace easel {
namespace {

using namespace testing;

const Precision kF32 = resolve_precision("cpu", DtypeChoice::kF32);

struct Apart {
  int largest = 0;
  double mean = 0;
};

// Of 8-bit values.
Apart difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.pixels.size(), b.pixels.size());
  Apart apart;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const int difference = std::abs(int{a.pixels[i]} - int{b.pixels[i]});
    apart.largest = std::max(apart.largest, difference);
    apart.mean += static_cast<double>(difference) / static_cast<double>(a.pixels.size());
  }
  return apart;
}

class LargePictures : public ::testing::Test {
 protected:
  LargePictures() : nets_(checkpoint_, kF32) { at::manual_seed(1); }  // of the noise

  // From a sheet of pictures that the bundled model drew.
  static Tensor drawn(int width, int height) {
    return pixels_of(
        crop(read_picture(fs::path(EASEL_SOURCE_DIR) / "models/easel-tiny/seeds_mars.png"), 4, 4, width, height));
  }
  static Image decoded(const Tensor& pixels) { return to_image(pixels[0]); }

  const c10::InferenceMode guard_;
  const Checkpoint checkpoint_ = open_checkpoint(models_folder() / kBundledModel);
  StageSet nets_;
  double seconds_ = 0;  // of loading
};

// Strips of a few rows, and of half of the picture.
constexpr int64_t kStripSizes[] = {1 << 17, 1 << 21};

TEST_F(LargePictures, StripsAreTheWholePicture) {
  const VaeDecoder& decoder = nets_.vae_decoder(&seconds_);
  const VaeEncoder& encoder = nets_.vae_encoder(&seconds_);
  const Tensor pixels = drawn(200, 136);
  const LatentPosterior whole = encoder(pixels);
  EXPECT_GT(whole.mean.std().item<double>(), 0.1);
  for (const Tensor& latent : {whole.mean, at::randn(whole.mean.sizes())}) {
    const Image want = decoded(decoder(latent));
    for (const int64_t bytes : kStripSizes)
      EXPECT_LE(difference(decoded(decoder.in_strips(latent, bytes)), want).largest, 1);
  }
  for (const int64_t bytes : kStripSizes) {
    const LatentPosterior strips = encoder.in_strips(pixels, bytes);
    EXPECT_LE(relative_difference(strips.mean, whole.mean), 1e-4);
    EXPECT_LE(relative_difference(strips.std, whole.std), 1e-4);
  }
}

TEST_F(LargePictures, TilesAreNear) {
  const VaeDecoder& decoder = nets_.vae_decoder(&seconds_);
  // Two tiles of the program's own size.
  const Tensor of_picture = nets_.vae_encoder(&seconds_)(drawn(680, 64)).mean;
  for (const auto& [name, latent] : {std::pair{"picture", of_picture}, {"noise", at::randn(of_picture.sizes())}}) {
    const Apart apart = difference(decoded(decoder.in_tiles(latent)), decoded(decoder(latent)));
    std::cout << name << " in tiles: largest " << apart.largest << "/255, mean " << apart.mean << "\n";
    EXPECT_LE(apart.mean, 3);
    EXPECT_GT(apart.largest, 1) << "one tile alone";
  }
}

}  // namespace
}  // namespace easel
