// Masks: grey pictures whose white says where to paint.
#include <algorithm>
#include <cmath>

#include "easel/image.h"

namespace easel {

Mask grey(const Image& image) {
  Mask mask{image.width, image.height, std::vector<uint8_t>(image.pixels.size() / 3)};
  for (std::size_t i = 0; i < mask.pixels.size(); ++i) {
    const uint8_t* p = &image.pixels[3 * i];
    mask.pixels[i] = static_cast<uint8_t>((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
  }
  return mask;
}

Mask inverted(Mask mask) {
  for (uint8_t& value : mask.pixels) value = static_cast<uint8_t>(255 - value);
  return mask;
}

namespace {

// One pass of a box of 2·radius + 1 samples whose outermost neighbours count by the radius' fraction (Pillow,
// BoxBlur.c); beyond the ends the end's sample goes on.
struct Box {
  int radius;
  uint32_t inner, outer;  // weights times 2^24

  explicit Box(float wanted) : radius(static_cast<int>(wanted)) {
    inner = static_cast<uint32_t>(static_cast<float>(1 << 24) / (wanted * 2 + 1));
    outer = ((1 << 24) - (static_cast<uint32_t>(radius) * 2 + 1) * inner) / 2;
  }

  std::vector<uint8_t> operator()(const std::vector<uint8_t>& line) const {
    const int last = static_cast<int>(line.size()) - 1;
    const auto at = [&](int i) { return uint32_t{line[static_cast<std::size_t>(std::clamp(i, 0, last))]}; };
    std::vector<uint8_t> out(line.size());
    uint32_t sum = 0;
    for (int i = -radius; i <= radius; ++i) sum += at(i);
    for (int i = 0; i <= last; ++i) {
      const uint32_t whole = sum * inner + (at(i - radius - 1) + at(i + radius + 1)) * outer;
      out[static_cast<std::size_t>(i)] = static_cast<uint8_t>((whole + (1 << 23)) >> 24);
      sum += at(i + radius + 1) - at(i - radius);
    }
    return out;
  }
};

constexpr int kPasses = 3;

// The box radius whose kPasses passes have the Gaussian's variance (Gwosdek et al. 2011), in Pillow's float arithmetic.
float box_radius(float sigma) {
  const float variance = sigma * sigma / kPasses;
  const auto length = static_cast<float>(std::sqrt(12.0 * variance + 1.0));
  const auto whole = static_cast<float>(std::floor((length - 1.0) / 2.0));
  const float rest =
      (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) * (whole + 1)));
  return whole + rest;
}

void blur_lines(Mask& mask, const Box& box, bool rows) {
  const auto lines = static_cast<std::size_t>(rows ? mask.height : mask.width);
  const auto length = static_cast<std::size_t>(rows ? mask.width : mask.height);
  const std::size_t step = rows ? 1 : static_cast<std::size_t>(mask.width);
  std::vector<uint8_t> line(length);
  for (std::size_t k = 0; k < lines; ++k) {
    uint8_t* const start = &mask.pixels[rows ? k * length : k];
    for (std::size_t i = 0; i < length; ++i) line[i] = start[i * step];
    for (int pass = 0; pass < kPasses; ++pass) line = box(line);
    for (std::size_t i = 0; i < length; ++i) start[i * step] = line[i];
  }
}

}  // namespace

Mask blurred(Mask mask, double sigma) {
  if (sigma <= 0) return mask;
  const Box box(box_radius(static_cast<float>(sigma)));
  blur_lines(mask, box, /*rows=*/true);
  blur_lines(mask, box, /*rows=*/false);
  return mask;
}

Image blend(const Image& outside, const Image& inside, const Mask& mask) {
  Image out = outside;
  for (std::size_t i = 0; i < mask.pixels.size(); ++i) {
    const int weight = mask.pixels[i];
    for (std::size_t c = 3 * i; c < 3 * i + 3; ++c)
      out.pixels[c] =
          static_cast<uint8_t>((inside.pixels[c] * weight + outside.pixels[c] * (255 - weight) + 127) / 255);
  }
  return out;
}

}  // namespace easel
