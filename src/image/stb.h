// stb_image and stb_image_write behind three functions; no other file includes them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "easel/image.h"

namespace easel {

namespace png {

// Signature, IHDR, IDAT, IEND. Throws Error(kMemory).
std::string compress(const Image& image);

// The pixels of a PNG whose header has been checked (sides up to kMaxPictureSide), as 8-bit RGB. An empty optional
// where it cannot be decoded; `why` is then the reason.
std::optional<Image> decompress(std::string_view bytes, std::string& why);

}  // namespace png

// 8-bit channels of any number, interleaved.
struct Decoded {
  int width = 0, height = 0, channels = 0;
  std::vector<uint8_t> pixels;
};

// The stored width and height, from the header alone.
std::optional<std::pair<int, int>> size_in_header(std::string_view bytes, std::string& why);

// A PNG, JPEG, BMP or TGA with its own channels (grey 1, grey and alpha 2, RGB 3, RGBA 4; palettes expanded, of 16 bits
// the high byte). A file that ends before its pixels do is not decoded, though stb would fill it up with zeros.
std::optional<Decoded> decode(std::string_view bytes, std::string& why);

}  // namespace easel
