// stb_image and stb_image_write behind two functions; no other file includes them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "easel/image.h"

namespace easel::png {

// Signature, IHDR, IDAT, IEND. Throws Error(kMemory).
std::string compress(const Image& image);

// The pixels of a PNG whose header has been checked (sides up to kMaxPictureSide), as 8-bit RGB. An empty optional
// where it cannot be decoded; `why` is then the reason.
std::optional<Image> decompress(std::string_view bytes, std::string& why);

}  // namespace easel::png
