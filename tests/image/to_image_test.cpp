#include <gtest/gtest.h>

#include <limits>

#include "easel/image.h"

namespace easel {
namespace {

const std::vector<float> kValues = {-1.5f,      -1.0f,  -0.999f, -0.8f,  -0.6f,     -0.4f, -0.2f, -0.1f,
                                    -0.003922f, -1e-8f, 0.0f,    1e-8f,  0.003922f, 0.1f,  0.2f,  0.4f,
                                    0.6f,       0.8f,   0.9f,    0.996f, 0.999f,    1.0f,  1.5f,  100.0f};

// diffusers 0.42.1, VaeImageProcessor().postprocess(torch.tensor(values, dtype=…).reshape(1, 1, 4, 6).repeat(1, 3, 1,
// 1)): ties to even (25.5 → 25 or 26 as the dtype rounds 0.1), and half precision rounds before the cast to float32.
TEST(ToImage, EqualsDiffusersInEveryDtype) {
  const std::vector<std::pair<at::ScalarType, std::vector<uint8_t>>> rows = {
      {at::kFloat,
       {0, 0, 0, 25, 51, 76, 102, 115, 127, 128, 128, 128, 128, 140, 153, 178, 204, 230, 242, 254, 255, 255, 255, 255}},
      {at::kHalf,
       {0, 0, 0, 26, 51, 77, 102, 115, 127, 128, 128, 128, 128, 140, 153, 179, 204, 229, 242, 255, 255, 255, 255, 255}},
      {at::kBFloat16,
       {0, 0, 0, 25, 51, 77, 102, 115, 127, 128, 128, 128, 128, 140, 153, 178, 204, 229, 242, 255, 255, 255, 255, 255}},
  };
  for (const auto& [dtype, want] : rows) {
    const Image image = to_image(at::tensor(kValues).to(dtype).reshape({1, 4, 6}).repeat({3, 1, 1}));
    EXPECT_EQ(image.width, 6);
    EXPECT_EQ(image.height, 4);
    ASSERT_EQ(image.pixels.size(), 3 * want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
      for (std::size_t c = 0; c < 3; ++c) EXPECT_EQ(image.pixels[3 * i + c], want[i]) << dtype << " " << kValues[i];
    }
  }
}

TEST(ToImage, ChannelsBecomeTheInnermostAndTheInputStays) {
  // channel, row and column in the digits of a pixel's value
  const Tensor digits = at::arange(2 * 3).reshape({1, 2, 3}) + 100 * at::arange(3).reshape({3, 1, 1});
  const Tensor decoded = digits.to(at::kFloat) / 255 * 2 - 1;
  const Tensor before = decoded.clone();
  const Image image = to_image(decoded);
  EXPECT_EQ(image.width, 3);
  EXPECT_EQ(image.height, 2);
  EXPECT_EQ(image.pixels,
            (std::vector<uint8_t>{0, 100, 200, 1, 101, 201, 2, 102, 202, 3, 103, 203, 4, 104, 204, 5, 105, 205}));
  EXPECT_TRUE(at::equal(decoded, before));
  // what a VAE hands over may be a view: one picture of a batch, channels last
  const Tensor batch = at::stack({decoded, -decoded}).contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_EQ(to_image(batch[0]).pixels, image.pixels);
}

TEST(ToImage, NotFiniteIsAPictureFault) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
      Tensor decoded = at::zeros({3, 4, 5}, dtype);
      decoded[2][3][4] = bad;
      decoded[0][0][0] = bad;
      try {
        to_image(decoded);
        FAIL() << bad << " became a picture";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kPicture);
        EXPECT_STREQ(error.what(), "decoded picture [3, 4, 5]: 2 of 60 values are not finite (NaN or infinite)");
      }
    }
  }
}

TEST(ToImage, OtherShapesAndDtypesAreOurFault) {
  EXPECT_THROW(to_image(at::zeros({1, 3, 4, 4})), c10::Error);
  EXPECT_THROW(to_image(at::zeros({4, 4, 4})), c10::Error);
  EXPECT_THROW(to_image(at::zeros({3, 4, 4}, at::kByte)), c10::Error);
}

}  // namespace
}  // namespace easel
