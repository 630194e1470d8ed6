// Two pictures: how far apart they are, and what an expectation says of it.
#include <gtest/gtest.h>

#include <cmath>

#include "easel/image.h"

namespace easel::testing {
namespace {

Image filled(int width, int height, uint8_t value) {
  return {width, height, std::vector<uint8_t>(std::size_t{3} * width * height, value)};
}

TEST(Compare, EqualPictures) {
  const Image image = filled(5, 3, 200);
  const auto difference = compare(image, image);
  ASSERT_TRUE(difference);
  EXPECT_TRUE(difference->is_equal());
  EXPECT_EQ(difference->largest, 0);
  EXPECT_EQ(difference->mean, 0);
  EXPECT_TRUE(std::isinf(difference->psnr));
}

// By hand: one of 4 · 4 · 3 = 48 values is 12 off, so the mean is 1/4, the mean square 3.
TEST(Compare, OneValue) {
  const Image image = filled(4, 4, 100);
  Image other = image;
  other.pixels[17] = 88;
  for (const auto& difference : {compare(image, other), compare(other, image)}) {
    ASSERT_TRUE(difference);
    EXPECT_FALSE(difference->is_equal());
    EXPECT_EQ(difference->largest, 12);
    EXPECT_DOUBLE_EQ(difference->mean, 0.25);
    EXPECT_NEAR(difference->psnr, 10 * std::log10(65025.0 / 3), 1e-9);
  }
}

TEST(Compare, BlackAndWhite) {
  const auto difference = compare(filled(64, 64, 0), filled(64, 64, 255));
  ASSERT_TRUE(difference);
  EXPECT_EQ(difference->largest, 255);
  EXPECT_DOUBLE_EQ(difference->mean, 255);
  EXPECT_DOUBLE_EQ(difference->psnr, 0);
}

TEST(Compare, SizesThatDifferAreNoComparison) {
  EXPECT_FALSE(compare(filled(4, 6, 0), filled(6, 4, 0)));  // as many values
  EXPECT_FALSE(compare(filled(4, 6, 0), filled(4, 7, 0)));
}

TEST(Mismatch, ToleranceIsTheLargestDifferenceAllowed) {
  const Image image = filled(4, 4, 100);
  Image other = image;
  other.pixels[17] = 103;
  EXPECT_EQ(mismatch(image, image, 0), "");
  EXPECT_EQ(mismatch(other, image, 3), "");
  EXPECT_EQ(mismatch(other, image, 2), "its largest difference is 3 of 255, expected at most 2 (PSNR 55.4 dB)");
  other.pixels[17] = 101;
  EXPECT_EQ(mismatch(other, image), "") << "a rounding border crossed";
  EXPECT_NE(mismatch(other, image, 0), "");
  EXPECT_EQ(mismatch(filled(8, 4, 0), image, 255), "it is 8x4, expected 4x4");
}

}  // namespace
}  // namespace easel::testing
