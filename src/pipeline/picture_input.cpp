#include "pipeline/picture_input.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

namespace easel {

namespace {

std::string size_of(int width, int height) { return std::to_string(width) + "x" + std::to_string(height); }

// "64" or "25%" of `whole`.
std::optional<int> margin_of(std::string_view text, int whole) {
  const bool percent = text.ends_with('%');
  if (percent) text.remove_suffix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0)) return std::nullopt;
  const double pixels = percent ? value / 100 * whole : value;
  if (pixels > kMaxPictureSide || (!percent && pixels != std::floor(pixels))) return std::nullopt;
  return static_cast<int>(std::lround(pixels));
}

// ---- outpainting --------------------------------------------------------------------------------------------------

// How far the repainted part reaches into the picture, so that the seam can fade: an eighth of the widest margin.
int seam_of(const Margins& m) { return std::clamp(std::max({m.left, m.top, m.right, m.bottom}) / 8, 4, 32); }

// Edge colours with noise on them: a flat margin would come back as a flat one.
Image extended(const Image& image, const Margins& m, uint64_t seed) {
  Image canvas = crop(image, -m.left, -m.top, image.width + m.left + m.right, image.height + m.top + m.bottom);
  std::mt19937_64 random(seed);
  constexpr int kAmplitude = 24;
  for (int y = 0; y < canvas.height; ++y) {
    for (int x = 0; x < canvas.width; ++x) {
      const bool inside = x >= m.left && x < m.left + image.width && y >= m.top && y < m.top + image.height;
      if (inside) continue;
      uint8_t* pixel = &canvas.pixels[3 * (std::size_t{1} * y * canvas.width + x)];
      for (int c = 0; c < 3; ++c) {
        const int noise = static_cast<int>(random() % (2 * kAmplitude + 1)) - kAmplitude;
        pixel[c] = static_cast<uint8_t>(std::clamp(pixel[c] + noise, 0, 255));
      }
    }
  }
  return canvas;
}

// White in the margins, fading to black over the seam inside the picture. Sides without a margin have no seam.
Mask margin_mask(const Image& canvas, const Margins& m) {
  const int seam = seam_of(m);
  Mask mask{canvas.width, canvas.height, std::vector<uint8_t>(canvas.pixels.size() / 3)};
  for (int y = 0; y < mask.height; ++y) {
    for (int x = 0; x < mask.width; ++x) {
      int depth = seam;  // of this pixel inside the picture
      if (m.left > 0) depth = std::min(depth, x - m.left);
      if (m.top > 0) depth = std::min(depth, y - m.top);
      if (m.right > 0) depth = std::min(depth, mask.width - m.right - 1 - x);
      if (m.bottom > 0) depth = std::min(depth, mask.height - m.bottom - 1 - y);
      mask.pixels[std::size_t{1} * y * mask.width + x] =
          depth < 0 ? 255 : static_cast<uint8_t>(255 * (seam - depth) / (seam + 1));
    }
  }
  return mask;
}

// ---- masks --------------------------------------------------------------------------------------------------------

Mask binary(Mask mask) {
  for (uint8_t& value : mask.pixels) value = value >= 128 ? 255 : 0;
  return mask;
}

struct Box {
  int left, top, right, bottom;  // right and bottom are past the end
};

std::optional<Box> bounds_of(const Mask& mask) {
  Box box{mask.width, mask.height, 0, 0};
  for (int y = 0; y < mask.height; ++y) {
    for (int x = 0; x < mask.width; ++x) {
      if (mask.pixels[std::size_t{1} * y * mask.width + x] == 0) continue;
      box = {std::min(box.left, x), std::min(box.top, y), std::max(box.right, x + 1), std::max(box.bottom, y + 1)};
    }
  }
  if (box.right == 0) return std::nullopt;
  return box;
}

// Widens begin … end to `wanted`, around its middle where there is room; at most all of 0 … whole.
void widen(int& begin, int& end, int wanted, int whole) {
  const int more = std::max(wanted - (end - begin), 0);
  begin -= more / 2;
  end += more - more / 2;
  if (end > whole) {
    begin -= end - whole;
    end = whole;
  }
  if (begin < 0) {
    end = std::min(end - begin, whole);
    begin = 0;
  }
}

// The mask's bounds with padding, in the shape of width × height as far as the canvas allows (diffusers'
// get_crop_region).
Box crop_box(const Mask& mask, int padding, int width, int height) {
  Box box = *bounds_of(mask);
  box = {std::max(box.left - padding, 0), std::max(box.top - padding, 0), std::min(box.right + padding, mask.width),
         std::min(box.bottom + padding, mask.height)};
  const double shape = static_cast<double>(width) / height;
  const int w = box.right - box.left, h = box.bottom - box.top;
  if (static_cast<double>(w) / h > shape)
    widen(box.top, box.bottom, static_cast<int>(w / shape), mask.height);
  else
    widen(box.left, box.right, static_cast<int>(h * shape), mask.width);
  return box;
}

Mask cropped(const Mask& mask, const Box& box) {
  Mask out{box.right - box.left, box.bottom - box.top, {}};
  for (int y = box.top; y < box.bottom; ++y) {
    const auto row = mask.pixels.begin() + static_cast<std::ptrdiff_t>(y) * mask.width;
    out.pixels.insert(out.pixels.end(), row + box.left, row + box.right);
  }
  return out;
}

void check_mask(const Mask& mask, const Image& original) {
  if (mask.width != original.width || mask.height != original.height)
    throw Error(ErrorKind::kUsage, "--mask is " + size_of(mask.width, mask.height) + ", the picture is " +
                                       size_of(original.width, original.height) + ": a mask has its picture's size");
}

// The mask of the canvas as the options want it.
Mask canvas_mask(Mask mask, const PictureOptions& o) {
  mask = binary(o.invert_mask ? inverted(std::move(mask)) : std::move(mask));
  if (!bounds_of(mask))
    throw Error(ErrorKind::kUsage, "--mask is black everywhere: nothing would be repainted",
                "white is repainted; --invert-mask repaints what is black");
  return blurred(std::move(mask), o.mask_blur);
}

PictureInput on_canvas(Image canvas, Mask mask, const PictureOptions& o) {
  PictureInput input;
  const int width = o.width > 0 ? o.width : canvas.width, height = o.height > 0 ? o.height : canvas.height;
  if (o.crop_padding) {
    const Box box = crop_box(mask, *o.crop_padding, width, height);
    const int w = box.right - box.left, h = box.bottom - box.top;
    input.picture = resize(crop(canvas, box.left, box.top, w, h), width, height);
    input.mask = resize(cropped(mask, box), width, height);
    input.place = PictureInput::Place{std::move(canvas), std::move(mask), box.left, box.top, w, h};
    return input;
  }
  if (width != canvas.width || height != canvas.height) {
    // The mask follows the picture; as a picture, for the three modes move both alike.
    Image mask_picture{mask.width, mask.height, {}};
    for (const uint8_t value : mask.pixels) mask_picture.pixels.insert(mask_picture.pixels.end(), 3, value);
    mask = grey(resize(mask_picture, width, height, o.resize));
    canvas = resize(canvas, width, height, o.resize);
  }
  input.picture = canvas;
  input.mask = mask;
  if (o.paste_back) input.place = PictureInput::Place{std::move(canvas), std::move(mask), 0, 0, width, height};
  return input;
}

}  // namespace

std::optional<Margins> margins_of(std::string_view text, int width, int height) {
  std::array<int, 4> sides{};
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t comma = text.find(',');
    if ((comma == std::string_view::npos) != (i == 3)) return std::nullopt;
    const auto side = margin_of(text.substr(0, comma), i % 2 == 0 ? width : height);
    if (!side) return std::nullopt;
    sides[i] = *side;
    text.remove_prefix(i == 3 ? 0 : comma + 1);
  }
  return Margins{sides[0], sides[1], sides[2], sides[3]};
}

PictureInput prepare_picture(const Image& original, const std::optional<Mask>& mask, const PictureOptions& o) {
  if (o.outpaint) {
    const auto margins = margins_of(*o.outpaint, original.width, original.height);
    if (!margins || margins->left + margins->top + margins->right + margins->bottom == 0)
      throw Error(ErrorKind::kUsage, "--outpaint \"" + *o.outpaint +
                                         "\": expected L,T,R,B in pixels or percent (0,0,128,0 or 25%,0,25%,0)");
    const int width = original.width + margins->left + margins->right;
    const int height = original.height + margins->top + margins->bottom;
    if (width > kMaxPictureSide || height > kMaxPictureSide)
      throw Error(ErrorKind::kUsage, "--outpaint " + *o.outpaint + ": a canvas of " + size_of(width, height) +
                                         " is too large, at most " + std::to_string(kMaxPictureSide) + " a side");
    Image canvas = extended(original, *margins, o.seed);
    Mask seams = margin_mask(canvas, *margins);
    return on_canvas(std::move(canvas), std::move(seams), o);
  }
  if (mask) {
    check_mask(*mask, original);
    return on_canvas(original, canvas_mask(*mask, o), o);
  }
  PictureInput input;
  const int width = o.width > 0 ? o.width : original.width, height = o.height > 0 ? o.height : original.height;
  input.picture =
      width == original.width && height == original.height ? original : resize(original, width, height, o.resize);
  return input;
}

Image PictureInput::finished(Image painted) const {
  if (!place) return painted;
  const Place& p = *place;
  if (painted.width != p.width || painted.height != p.height) painted = resize(painted, p.width, p.height);
  // The painted picture on a canvas of its own; outside of it the mask is black.
  Image inside = p.canvas;
  for (int y = 0; y < p.height; ++y)
    std::copy_n(&painted.pixels[3 * std::size_t{1} * y * p.width], 3 * p.width,
                &inside.pixels[3 * (std::size_t{1} * (p.top + y) * inside.width + p.left)]);
  return blend(p.canvas, inside, p.mask);
}

}  // namespace easel
