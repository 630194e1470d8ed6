// Resizing and cropping. The filter is Pillow's Lanczos in its fixed-point arithmetic (Pillow, Resample.c), so that a
// picture resized here is, byte for byte, the one diffusers' VaeImageProcessor gives its networks.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "easel/image.h"

namespace easel {

namespace {

constexpr double kLobes = 3.0;  // Lanczos-3
constexpr int kPrecision = 32 - 8 - 2;

double sinc(double x) {
  if (x == 0) return 1;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double lanczos(double x) { return -kLobes <= x && x < kLobes ? sinc(x) * sinc(x / kLobes) : 0; }

// What one output sample is made of: inputs first … first + weights.size() − 1.
struct Taps {
  int first;
  std::vector<int> weights;
};

std::vector<Taps> taps_of(int in, int out) {
  const double scale = static_cast<double>(in) / out, stretch = std::max(scale, 1.0);
  const double support = kLobes * stretch;
  std::vector<Taps> taps(static_cast<std::size_t>(out));
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + support + 0.5), in);
    std::vector<double> weights;
    double sum = 0;
    for (int x = first; x < end; ++x) sum += weights.emplace_back(lanczos((x - centre + 0.5) * (1 / stretch)));
    Taps& tap = taps[static_cast<std::size_t>(i)];
    tap.first = first;
    for (const double weight : weights) {
      const double scaled = (sum != 0 ? weight / sum : weight) * (1 << kPrecision);
      tap.weights.push_back(static_cast<int>(scaled + (scaled < 0 ? -0.5 : 0.5)));
    }
  }
  return taps;
}

uint8_t rounded(int sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecision, 0, 255)); }

// Samples of one line lie `step` apart, its channels one after the other.
void resample_line(const uint8_t* in, uint8_t* out, const std::vector<Taps>& taps, std::size_t in_step,
                   std::size_t out_step, int channels) {
  for (std::size_t i = 0; i < taps.size(); ++i) {
    for (int c = 0; c < channels; ++c) {
      int sum = 1 << (kPrecision - 1);
      const uint8_t* from = in + static_cast<std::size_t>(taps[i].first) * in_step + c;
      for (const int weight : taps[i].weights) {
        sum += weight * *from;
        from += in_step;
      }
      out[i * out_step + c] = rounded(sum);
    }
  }
}

std::vector<uint8_t> resample(std::vector<uint8_t> pixels, int channels, int width, int height, int to_width,
                              int to_height) {
  const auto row = [&](int w) { return static_cast<std::size_t>(w) * channels; };
  if (to_width != width) {
    const std::vector<Taps> taps = taps_of(width, to_width);
    std::vector<uint8_t> wide(row(to_width) * height);
    for (int y = 0; y < height; ++y)
      resample_line(&pixels[row(width) * y], &wide[row(to_width) * y], taps, channels, channels, channels);
    pixels = std::move(wide);
  }
  if (to_height != height) {
    const std::vector<Taps> taps = taps_of(height, to_height);
    std::vector<uint8_t> tall(row(to_width) * to_height);
    for (int x = 0; x < to_width; ++x)
      resample_line(&pixels[row(x)], &tall[row(x)], taps, row(to_width), row(to_width), channels);
    pixels = std::move(tall);
  }
  return pixels;
}

// The part that the wanted shape covers; `cover`: all of the shape is filled, else all of the picture is seen.
std::pair<int, int> scaled_size(const Image& image, int width, int height, bool cover) {
  const double by_width = static_cast<double>(width) / image.width,
               by_height = static_cast<double>(height) / image.height;
  const bool width_rules = cover == (by_width > by_height);
  const auto side = [](double x) { return std::max(1, static_cast<int>(std::lround(x))); };
  return width_rules ? std::pair(width, side(image.height * by_width))
                     : std::pair(side(image.width * by_height), height);
}

}  // namespace

Image resize(const Image& image, int width, int height) {
  return {width, height, resample(image.pixels, 3, image.width, image.height, width, height)};
}

Mask resize(const Mask& mask, int width, int height) {
  return {width, height, resample(mask.pixels, 1, mask.width, mask.height, width, height)};
}

Image crop(const Image& image, int left, int top, int width, int height) {
  Image out{width, height, std::vector<uint8_t>(std::size_t{3} * width * height)};
  for (int y = 0; y < height; ++y) {
    const int from_y = std::clamp(top + y, 0, image.height - 1);
    for (int x = 0; x < width; ++x) {
      const int from_x = std::clamp(left + x, 0, image.width - 1);
      std::copy_n(&image.pixels[3 * (std::size_t{1} * from_y * image.width + from_x)], 3,
                  &out.pixels[3 * (std::size_t{1} * y * width + x)]);
    }
  }
  return out;
}

Image resize(const Image& image, int width, int height, ResizeMode mode) {
  if (mode == ResizeMode::kStretch) return resize(image, width, height);
  const auto [w, h] = scaled_size(image, width, height, mode == ResizeMode::kFill);
  // halves as C++ divides them: of an odd margin the right and lower part is the larger one
  return crop(resize(image, w, h), (w - width) / 2, (h - height) / 2, width, height);
}

}  // namespace easel
