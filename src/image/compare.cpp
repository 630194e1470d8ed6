#include <cmath>
#include <cstdlib>
#include <limits>

#include "easel/image.h"

namespace easel {

std::optional<ImageDifference> compare(const Image& one, const Image& other) {
  if (one.width != other.width || one.height != other.height) return std::nullopt;
  ImageDifference difference;
  int64_t sum = 0, squares = 0;
  for (std::size_t i = 0; i < one.pixels.size(); ++i) {
    const int d = std::abs(one.pixels[i] - other.pixels[i]);
    difference.largest = std::max(difference.largest, d);
    sum += d;
    squares += d * d;
  }
  const auto count = static_cast<double>(one.pixels.size());
  difference.mean = sum == 0 ? 0 : static_cast<double>(sum) / count;
  difference.psnr = squares == 0 ? std::numeric_limits<double>::infinity()
                                 : 10 * std::log10(255.0 * 255.0 * count / static_cast<double>(squares));
  return difference;
}

std::string mismatch(const Image& drawn, const Image& expected, int tolerance) {
  const auto size = [](const Image& image) { return std::to_string(image.width) + "x" + std::to_string(image.height); };
  const std::optional<ImageDifference> difference = compare(drawn, expected);
  if (!difference) return "it is " + size(drawn) + ", expected " + size(expected);
  if (difference->largest <= tolerance) return "";
  return "its largest difference is " + std::to_string(difference->largest) + " of 255, expected at most " +
         std::to_string(tolerance) + " (PSNR " + plain(std::round(difference->psnr * 100) / 100) + " dB)";
}

}  // namespace easel
