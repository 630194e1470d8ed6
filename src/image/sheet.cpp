// Contact sheets: pictures side by side with a line of text under each. The font is stb_easy_font's, which is in the
// program: nothing has to be found on the machine.
#include <stb_easy_font.h>

#include <algorithm>
#include <array>

#include "easel/image.h"

namespace easel {

namespace {

constexpr int kMargin = 4;
constexpr int kLetterHeight = 12;

void fill(Image& image, int left, int top, int right, int bottom, uint8_t value) {
  left = std::clamp(left, 0, image.width);
  right = std::clamp(right, left, image.width);
  for (int y = std::max(top, 0); y < std::min(bottom, image.height); ++y)
    std::fill_n(&image.pixels[3 * (std::size_t{1} * y * image.width + left)], 3 * (right - left), value);
}

void paste(Image& onto, const Image& image, int left, int top) {
  for (int y = 0; y < image.height; ++y)
    std::copy_n(&image.pixels[3 * std::size_t{1} * y * image.width], 3 * image.width,
                &onto.pixels[3 * (std::size_t{1} * (top + y) * onto.width + left)]);
}

// The letters that the font has, '?' for others, cut where they do not fit.
std::string drawable(std::string_view label, int width, int scale) {
  std::string text;
  for (std::size_t i = 0; i < label.size(); ++i) {
    const auto byte = static_cast<uint8_t>(label[i]);
    if ((byte & 0xC0) == 0x80) continue;  // the rest of a UTF-8 character
    text += byte >= 0x20 && byte < 0x7F ? label[i] : '?';
  }
  while (!text.empty() && stb_easy_font_width(text.data()) * scale > width) text.pop_back();
  return text;
}

void write_text(Image& onto, std::string text, int left, int top, int scale) {
  struct Corner {
    float x, y, z;
    std::array<uint8_t, 4> colour;
  };
  std::vector<std::array<Corner, 4>> quads(60 * (text.size() + 1));
  const int count = stb_easy_font_print(0, 0, text.data(), nullptr, quads.data(),
                                        static_cast<int>(quads.size() * sizeof(quads.front())));
  for (int i = 0; i < count; ++i) {
    const auto& quad = quads[static_cast<std::size_t>(i)];
    const auto at = [&](float v) { return static_cast<int>(v) * scale; };
    fill(onto, left + at(quad[0].x), top + at(quad[0].y), left + at(quad[2].x), top + at(quad[2].y), 0);
  }
}

}  // namespace

Image contact_sheet(const std::vector<LabelledImage>& cells, int columns) {
  TORCH_CHECK(!cells.empty() && columns >= 1, "an empty contact sheet");
  int width = 0, height = 0;
  for (const LabelledImage& cell : cells) {
    width = std::max(width, cell.image.width);
    height = std::max(height, cell.image.height);
  }
  columns = std::min(columns, static_cast<int>(cells.size()));
  const int scale = width >= 256 ? 2 : 1, line = kLetterHeight * scale;
  const int rows = (static_cast<int>(cells.size()) + columns - 1) / columns;
  const int64_t full_width = kMargin + int64_t{columns} * (width + kMargin);
  const int64_t full_height = kMargin + int64_t{rows} * (height + line + kMargin);
  if (full_width > kMaxPictureSide || full_height > kMaxPictureSide)
    throw Error(ErrorKind::kUsage, "a sheet of " + std::to_string(full_width) + "x" + std::to_string(full_height) +
                                       " pixels is too large, at most " + std::to_string(kMaxPictureSide) + " a side");
  Image sheet{static_cast<int>(full_width), static_cast<int>(full_height), {}};
  sheet.pixels.assign(std::size_t{3} * sheet.width * sheet.height, 255);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const int left = kMargin + static_cast<int>(i) % columns * (width + kMargin);
    const int top = kMargin + static_cast<int>(i) / columns * (height + line + kMargin);
    paste(sheet, cells[i].image, left, top);
    write_text(sheet, drawable(cells[i].label, width, scale), left, top + height + 2 * scale, scale);
  }
  return sheet;
}

}  // namespace easel
