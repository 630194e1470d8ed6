// image: bytes in and out. Knows nothing of models.
#pragma once

#include "easel/core.h"
#include "easel/tensor.h"

namespace easel {

// 8-bit RGB, row-major, height × width × 3 bytes.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> pixels;
};

// Decoded VAE output [3, H, W] in [-1, 1] → Image: (x/2 + 0.5) clamped, ×255, rounded half to even, as diffusers'
// VaeImageProcessor and numpy_to_pil do. Throws Error(kPicture) if a value is not finite.
Image to_image(const Tensor& decoded);

// A text chunk: tEXt where the text is Latin-1, iTXt (UTF-8) otherwise.
struct PngText {
  std::string keyword;
  std::string text;  // UTF-8
};

// The PNG file's bytes, text chunks before the pixels.
std::string encode_png(const Image& image, const std::vector<PngText>& texts);

// Reads back the text chunks of a PNG (tEXt, zTXt refused, iTXt) as UTF-8. Throws Error(kFile).
std::vector<PngText> read_png_texts(const std::filesystem::path& file);

// Writes `bytes` to `target` so that the file appears whole or not at all: a temporary beside it, fsync, rename (or
// link, which fails when the target exists, unless `overwrite`). Throws Error(kFile) with the system's reason (disk
// full, …).
void write_file_atomically(const std::filesystem::path& target, std::string_view bytes, bool overwrite);

}  // namespace easel
