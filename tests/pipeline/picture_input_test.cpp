// What the networks are given to paint on, and how it comes back.
#include "pipeline/picture_input.h"

#include <gtest/gtest.h>

namespace easel {
namespace {

Image noise(int width, int height) {
  Image image{width, height, {}};
  for (int i = 0; i < 3 * width * height; ++i) image.pixels.push_back(static_cast<uint8_t>(i * 37 % 251));
  return image;
}

Image flat(int width, int height, uint8_t value) {
  return {width, height, std::vector<uint8_t>(std::size_t{3} * width * height, value)};
}

Mask box_mask(int width, int height, int left, int top, int right, int bottom) {
  Mask mask{width, height, std::vector<uint8_t>(std::size_t{1} * width * height)};
  for (int y = top; y < bottom; ++y)
    for (int x = left; x < right; ++x) mask.pixels[std::size_t{1} * y * width + x] = 255;
  return mask;
}

std::string why_refused(const Image& image, const std::optional<Mask>& mask, const PictureOptions& options) {
  try {
    prepare_picture(image, mask, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "";
}

TEST(PictureInput, APictureAloneIsOnlyResized) {
  const Image image = noise(40, 24);
  EXPECT_EQ(prepare_picture(image, {}, {}).picture.pixels, image.pixels);
  const PictureInput input = prepare_picture(image, {}, {.width = 16, .height = 16});
  EXPECT_EQ(input.picture.width, 16);
  EXPECT_FALSE(input.mask || input.place);
  EXPECT_EQ(input.finished(flat(16, 16, 9)).pixels, flat(16, 16, 9).pixels);
}

TEST(PictureInput, WhatIsNotMaskedKeepsItsBytes) {
  const Image image = noise(40, 24);
  const Mask mask = box_mask(40, 24, 8, 8, 20, 16);
  const Image out = prepare_picture(image, mask, {}).finished(flat(40, 24, 7));
  for (std::size_t i = 0; i < mask.pixels.size(); ++i)
    EXPECT_EQ(out.pixels[3 * i], mask.pixels[i] ? 7 : image.pixels[3 * i]) << i;
  const Image inverse = prepare_picture(image, mask, {.invert_mask = true}).finished(flat(40, 24, 7));
  EXPECT_EQ(inverse.pixels[0], 7);
  EXPECT_EQ(inverse.pixels[3 * (10 * 40 + 10)], image.pixels[3 * (10 * 40 + 10)]);
  EXPECT_EQ(prepare_picture(image, mask, {.paste_back = false}).finished(flat(40, 24, 7)).pixels,
            flat(40, 24, 7).pixels);
}

TEST(PictureInput, BlurReachesOutOfTheMaskAndNoFurther) {
  const Image image = noise(64, 64);
  const Image out =
      prepare_picture(image, box_mask(64, 64, 24, 24, 40, 40), {.mask_blur = 2}).finished(flat(64, 64, 200));
  const auto at = [&](int x, int y) { return 3 * (y * 64 + x); };
  EXPECT_NE(out.pixels[at(23, 32)], image.pixels[at(23, 32)]);
  EXPECT_NE(out.pixels[at(24, 32)], 200);
  for (int x = 0; x < 16; ++x) EXPECT_EQ(out.pixels[at(x, 32)], image.pixels[at(x, 32)]) << x;
  EXPECT_EQ(out.pixels[at(32, 32)], 200);
}

TEST(PictureInput, ACropAroundTheMaskIsPaintedAtItsOwnSize) {
  const Image image = noise(100, 60);
  const Mask mask = box_mask(100, 60, 70, 20, 80, 30);
  const PictureInput input = prepare_picture(image, mask, {.width = 64, .height = 64, .crop_padding = 5});
  EXPECT_EQ(input.picture.width, 64);
  EXPECT_EQ(input.place->left, 65);
  EXPECT_EQ(input.place->top, 15);
  EXPECT_EQ(input.place->width, 20);
  EXPECT_EQ(input.place->height, 20);
  const Image out = input.finished(flat(64, 64, 3));
  EXPECT_EQ(out.width, 100);
  for (std::size_t i = 0; i < mask.pixels.size(); ++i)
    EXPECT_EQ(out.pixels[3 * i], mask.pixels[i] ? 3 : image.pixels[3 * i]) << i;
  // A wide crop gets taller, and at the canvas' edge it moves inwards.
  const PictureInput wide =
      prepare_picture(image, box_mask(100, 60, 60, 50, 100, 60), {.width = 64, .height = 64, .crop_padding = 0});
  EXPECT_EQ(wide.place->width, 40);
  EXPECT_EQ(wide.place->height, 40);
  EXPECT_EQ(wide.place->top, 20);
}

TEST(PictureInput, AnExtendedCanvasKeepsThePictureInside) {
  const Image image = noise(40, 24);
  const PictureInput input = prepare_picture(image, {}, {.outpaint = "16,0,50%,8", .seed = 5});
  EXPECT_EQ(input.picture.width, 76);
  EXPECT_EQ(input.picture.height, 32);
  const Image out = input.finished(flat(76, 32, 11));
  const auto at = [](const Image& i, int x, int y) { return i.pixels[3 * (y * i.width + x)]; };
  EXPECT_EQ(at(out, 3, 3), 11);
  EXPECT_EQ(at(out, 70, 30), 11);
  EXPECT_EQ(at(out, 36, 0), at(image, 20, 0)) << "the top has no margin, so no seam";
  EXPECT_EQ(at(out, 36, 8), at(image, 20, 8));
  EXPECT_NE(at(out, 16, 8), at(image, 0, 8)) << "the seam fades";
  // Edge colours with noise that follows from the seed.
  EXPECT_LE(std::abs(at(input.picture, 0, 5) - at(image, 0, 5)), 24);
  EXPECT_EQ(prepare_picture(image, {}, {.outpaint = "16,0,50%,8", .seed = 5}).picture.pixels, input.picture.pixels);
  EXPECT_NE(prepare_picture(image, {}, {.outpaint = "16,0,50%,8", .seed = 6}).picture.pixels, input.picture.pixels);
}

TEST(PictureInput, RefusalsSayWhy) {
  const Image image = noise(40, 24);
  EXPECT_NE(why_refused(image, box_mask(24, 40, 0, 0, 4, 4), {}).find("24x40, the picture is 40x24"),
            std::string::npos);
  EXPECT_NE(why_refused(image, box_mask(40, 24, 0, 0, 0, 0), {}).find("black everywhere"), std::string::npos);
  EXPECT_NE(why_refused(image, box_mask(40, 24, 0, 0, 40, 24), {.invert_mask = true}).find("black everywhere"),
            std::string::npos);
  for (const char* margins :
       {"", "1,2,3", "1,2,3,4,5", "-1,0,0,0", "a,0,0,0", "1.5,0,0,0", "0,0,0,0", "nan,0,0,0", "1e3%,0,0,0 "})
    EXPECT_NE(why_refused(image, {}, {.outpaint = margins}), "") << margins;
  EXPECT_NE(why_refused(image, {}, {.outpaint = "16384,0,0,0"}).find("too large"), std::string::npos);
}

}  // namespace
}  // namespace easel
