// image: bytes in and out. Knows nothing of models.
#pragma once

#include "easel/core.h"
#include "easel/tensor.h"

namespace easel {

// The longest side of a picture that is read or written.
inline constexpr int kMaxPictureSide = 16384;

// 8-bit RGB, row-major, height × width × 3 bytes.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> pixels;
};

// Decoded VAE output [3, H, W] in [-1, 1] → Image: (x/2 + 0.5) clamped in the tensor's own dtype, then ×255 in float32,
// rounded half to even, as diffusers' VaeImageProcessor and numpy_to_pil do. Any device. Throws Error(kPicture) if a
// value is not finite.
Image to_image(const Tensor& decoded);

// A text chunk of a PNG. Both strings are UTF-8. Keyword: 1 to 79 printable Latin-1 characters, no space at its ends
// and no two in a row (PNG 1.2, section 4.2.3).
struct PngText {
  std::string keyword;
  std::string text;
};

// The PNG file's bytes, the text chunks in their order before the pixels: tEXt where the text is Latin-1, iTXt (not
// compressed) otherwise. Throws Error(kUsage) for a text that no PNG can hold: one with a NUL or invalid UTF-8.
std::string encode_png(const Image& image, const std::vector<PngText>& texts);

// The text chunks of a PNG (tEXt and iTXt) in the file's order, equal keywords kept, before and after the pixels.
// Throws Error(kFile) for what cannot be opened or is no whole PNG (every CRC is checked) and for compressed text
// (zTXt, compressed iTXt), named by its keyword.
std::vector<PngText> read_png_texts(const std::filesystem::path& file);

// The pixels of any PNG as 8-bit RGB: grey and palettes expanded, alpha dropped, of 16 bits the high byte. Throws
// Error(kFile) with the reason; a side above kMaxPictureSide is refused before anything is unpacked.
Image read_png(const std::filesystem::path& file);

// A picture as other programs make them: PNG, JPEG (baseline and progressive), BMP or TGA, told apart by content.
// Turned upright by its Exif orientation, transparent parts over white, grey and palettes as RGB, of 16 bits the high
// byte. Throws Error(kFile) for what cannot be read, is another format (by name), is damaged or ends too early.
Image read_picture(const std::filesystem::path& file);

// The width and height that read_picture() would give, from the file's header; what follows it is not looked at. Throws
// Error(kFile).
std::pair<int, int> picture_size(const std::filesystem::path& file);

// ---- pixels -------------------------------------------------------------------------------------------------------

// 8-bit grey, row-major. As a mask: 255 is repainted, 0 kept.
struct Mask {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> pixels;
};

// Pillow's LANCZOS, byte for byte: what diffusers' VaeImageProcessor gives its networks. Sizes at least 1.
Image resize(const Image& image, int width, int height);
Mask resize(const Mask& mask, int width, int height);

// kStretch: sides scaled apart (diffusers' "default"). kFill: the middle of the picture fills the size. kFit: all of
// the picture is seen, its edge pixels go on beside it.
enum class ResizeMode { kFit, kFill, kStretch };
Image resize(const Image& image, int width, int height, ResizeMode mode);

// The part from (left, top); what lies outside of the picture repeats its edge pixels.
Image crop(const Image& image, int left, int top, int width, int height);

// Luma of ITU-R 601 as Pillow's convert("L") rounds it.
Mask grey(const Image& image);
Mask inverted(Mask mask);
// Pillow's GaussianBlur(sigma): three box passes each way; sigma in pixels, 0 leaves the mask alone.
Mask blurred(Mask mask, double sigma);
// Edges white on black (Canny 1986), those of cv2.Canny(image, low, high) bit for bit: Sobel gradients of aperture 3,
// of each pixel's three the largest |dx| + |dy|; edges grow from above `high` along pixels above `low`.
Image canny(const Image& image, int low, int high);
// mask/255·inside + (1 − mask/255)·outside, all of one size; where the mask is 0 the outside's bytes.
Image blend(const Image& outside, const Image& inside, const Mask& mask);

// Pictures in rows of `columns`, a line of text under each (ASCII; other characters as '?', cut where the picture
// ends). Throws Error(kUsage) for a sheet beyond kMaxPictureSide.
struct LabelledImage {
  Image image;
  std::string label;
};
Image contact_sheet(const std::vector<LabelledImage>& cells, int columns);

// ---- comparing ----------------------------------------------------------------------------------------------------

// Of the 8-bit values of two pictures of one size.
struct ImageDifference {
  int largest = 0;
  double mean = 0;  // of absolute differences, over all channels
  double psnr = 0;  // dB against 255; infinite for equal pictures

  bool is_equal() const { return largest == 0; }
};
// nullopt where their sizes differ.
std::optional<ImageDifference> compare(const Image& one, const Image& other);

// What an expectation allows where nothing else is said: float32 on another processor or with other threads moves
// values across a rounding border.
inline constexpr int kRoundingTolerance = 1;
// Why `drawn` is not `expected`; empty when no 8-bit value differs by more than `tolerance`.
std::string mismatch(const Image& drawn, const Image& expected, int tolerance = kRoundingTolerance);

// ---- files --------------------------------------------------------------------------------------------------------

// Writes `bytes` to `target` so that the file appears whole or not at all: a temporary beside it (mode per umask),
// fsync, rename; without `overwrite` a link, which fails when the target exists. The temporary is removed on any
// failure. A symbolic link at `target` is replaced, not followed. A device, pipe or folder there is refused. Throws
// Error(kFile) with the system's reason (disk full, folder missing, …).
void write_file_atomically(const std::filesystem::path& target, std::string_view bytes, bool overwrite);

// Writes all of `bytes` to an open descriptor, e.g. 1 for `-o -`, waiting where it does not block. Throws Error(kFile)
// with the system's reason, `name` in front ("standard output"); Interrupted when a signal ends the wait.
void write_to_descriptor(int fd, std::string_view bytes, const std::string& name);

// Neither writer needs SIGXFSZ or SIGPIPE ignored: they hold both back from their thread, so that the file size limit
// and a closed pipe are errors and not the end of the program.

}  // namespace easel
