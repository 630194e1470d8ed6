// The pixels that a picture begins with: a picture to vary, a mask to repaint, a canvas to extend.
#pragma once

#include "easel/image.h"

namespace easel {

struct Margins {
  int left = 0, top = 0, right = 0, bottom = 0;
};

// "L,T,R,B" in pixels, or in percent of the picture's width and height ("25%"); nullopt for any other text.
std::optional<Margins> margins_of(std::string_view text, int width, int height);

struct PictureOptions {
  int width = 0, height = 0;  // of what the networks see; 0: the canvas' own
  ResizeMode resize = ResizeMode::kStretch;
  bool invert_mask = false;
  double mask_blur = 0;                  // sigma in pixels of the canvas
  std::optional<int> crop_padding = {};  // repaint in a crop around the mask, with so many pixels beside it
  std::optional<std::string> outpaint = {};
  bool paste_back = true;
  uint64_t seed = 0;  // of the noise in outpainted margins
};

// What the networks paint on, and how the result becomes the picture that is asked for.
struct PictureInput {
  Image picture;             // what the VAE encodes
  std::optional<Mask> mask;  // of that size; from 128 on a pixel is repainted
  struct Place {
    Image canvas;                                  // the original, or the extended canvas
    Mask mask;                                     // of the canvas: how much of the painted picture is seen
    int left = 0, top = 0, width = 0, height = 0;  // where the painted picture lies on it
  };
  std::optional<Place> place;  // with a mask, unless the painted picture is wanted as it is

  // The painted picture on its canvas; where the mask is black, the canvas' own bytes.
  Image finished(Image painted) const;
};

// Throws Error(kUsage) with the reason: a mask of another size or all black, margins that are no margins, sides that
// are not positive.
PictureInput prepare_picture(const Image& original, const std::optional<Mask>& mask, const PictureOptions& options);

}  // namespace easel
