#include <algorithm>
#include <cstdlib>

#include "easel/image.h"

namespace easel {

namespace {

struct Gradients {
  int width = 0, height = 0;
  std::vector<int> dx = {}, dy = {}, size = {};

  std::size_t at(int x, int y) const { return std::size_t{1} * y * width + x; }
  int size_at(int x, int y) const { return x < 0 || y < 0 || x >= width || y >= height ? 0 : size[at(x, y)]; }
};

// Of the channel where they are largest; pixels outside are those of the border.
Gradients sobel(const Image& image) {
  Gradients g{.width = image.width, .height = image.height};
  const std::size_t count = std::size_t{1} * image.width * image.height;
  g.dx.resize(count), g.dy.resize(count), g.size.resize(count);
  for (int y = 0; y < image.height; ++y) {
    const int above = std::max(y - 1, 0), below = std::min(y + 1, image.height - 1);
    for (int x = 0; x < image.width; ++x) {
      const int left = std::max(x - 1, 0), right = std::min(x + 1, image.width - 1);
      for (int c = 0; c < 3; ++c) {
        const auto p = [&](int px, int py) {
          return int{image.pixels[3 * g.at(px, py) + static_cast<std::size_t>(c)]};
        };
        const int dx =
            p(right, above) - p(left, above) + 2 * (p(right, y) - p(left, y)) + p(right, below) - p(left, below);
        const int dy =
            p(left, below) - p(left, above) + 2 * (p(x, below) - p(x, above)) + p(right, below) - p(right, above);
        const int size = std::abs(dx) + std::abs(dy);
        const std::size_t i = g.at(x, y);
        if (c == 0 || size > g.size[i]) g.dx[i] = dx, g.dy[i] = dy, g.size[i] = size;
      }
    }
  }
  return g;
}

// Whether no neighbour across the edge is larger: beside, above and below, or diagonal, by the gradient's angle.
bool is_ridge(const Gradients& g, int x, int y) {
  constexpr int64_t kShift = 15, kTan22 = 13573;  // tan(22.5°)·2¹⁵ as OpenCV rounds it
  const std::size_t i = g.at(x, y);
  const int m = g.size[i];
  const int64_t across = std::abs(g.dx[i]), down = int64_t{std::abs(g.dy[i])} << kShift;
  const int64_t tan22 = across * kTan22, tan67 = tan22 + (across << (kShift + 1));
  if (down < tan22) return m > g.size_at(x - 1, y) && m >= g.size_at(x + 1, y);
  if (down > tan67) return m > g.size_at(x, y - 1) && m >= g.size_at(x, y + 1);
  const int s = (g.dx[i] ^ g.dy[i]) < 0 ? -1 : 1;
  return m > g.size_at(x - s, y - 1) && m > g.size_at(x + s, y + 1);
}

}  // namespace

Image canny(const Image& image, int low, int high) {
  const Gradients g = sobel(image);
  enum : uint8_t { kNone, kWeak, kEdge };
  std::vector<uint8_t> kind(g.size.size(), kNone);
  std::vector<std::pair<int, int>> grown;
  for (int y = 0; y < g.height; ++y) {
    for (int x = 0; x < g.width; ++x) {
      const std::size_t i = g.at(x, y);
      if (g.size[i] <= low || !is_ridge(g, x, y)) continue;
      kind[i] = g.size[i] > high ? kEdge : kWeak;
      if (kind[i] == kEdge) grown.emplace_back(x, y);
    }
  }
  while (!grown.empty()) {
    const auto [px, py] = grown.back();
    grown.pop_back();
    for (int y = std::max(py - 1, 0); y <= std::min(py + 1, g.height - 1); ++y) {
      for (int x = std::max(px - 1, 0); x <= std::min(px + 1, g.width - 1); ++x) {
        if (kind[g.at(x, y)] != kWeak) continue;
        kind[g.at(x, y)] = kEdge;
        grown.emplace_back(x, y);
      }
    }
  }
  Image edges{image.width, image.height, std::vector<uint8_t>(image.pixels.size())};
  for (std::size_t i = 0; i < kind.size(); ++i)
    std::fill_n(&edges.pixels[3 * i], 3, static_cast<uint8_t>(kind[i] == kEdge ? 255 : 0));
  return edges;
}

}  // namespace easel
