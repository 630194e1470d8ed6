// Pictures from outside: any of four formats, upright, opaque, RGB.
#include <algorithm>
#include <fstream>

#include "easel/image.h"
#include "image/exif.h"
#include "image/png_chunks.h"
#include "image/stb.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& file, const std::string& why) {
  throw Error(ErrorKind::kFile, file.string() + ": not a readable picture: " + why,
              "pictures are read as PNG, JPEG, BMP or TGA");
}

// A pipe would be waited for, a device read without end; and a picture is read twice, for its size and its pixels.
void refuse_unless_regular(const fs::path& file) {
  std::error_code error;
  const fs::file_status status = fs::status(file, error);
  if (!fs::exists(status) || fs::is_regular_file(status)) return;
  refuse(file, fs::is_directory(status) ? "it is a folder"
               : fs::is_fifo(status)    ? "it is a pipe; save it as a file first"
                                        : "it is a device");
}

std::string read_bytes(const fs::path& file) {
  refuse_unless_regular(file);
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in) throw Error(ErrorKind::kFile, file.string() + ": " + std::generic_category().message(errno));
  const std::streamoff size = in.tellg();
  constexpr std::streamoff kLargest = std::streamoff{1} << 30;
  if (size > kLargest) refuse(file, "it is larger than 1 GiB");
  std::string bytes(static_cast<std::size_t>(std::max<std::streamoff>(size, 0)), '\0');
  in.seekg(0).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!in || bytes.empty()) refuse(file, bytes.empty() ? "it is empty" : "it cannot be read to its end");
  return bytes;
}

// Formats that people have and that are not read, by their first bytes.
const char* other_format(std::string_view bytes) {
  if (bytes.starts_with("RIFF") && bytes.substr(8, 4) == "WEBP") return "it is WebP";
  if (bytes.starts_with("GIF8")) return "it is GIF";
  if (bytes.starts_with("II*") || bytes.starts_with(std::string_view("MM\0*", 4))) return "it is TIFF";
  if (bytes.substr(4, 4) == "ftyp") return "it is HEIC, AVIF or a video";
  return nullptr;
}

bool is_jpeg(std::string_view bytes) { return bytes.starts_with("\xFF\xD8\xFF"); }

int orientation_of_png(std::string_view bytes, const fs::path& file) {
  for (const png::Chunk& chunk : png::chunks_of(bytes, file)) {  // every CRC is checked on the way
    if (chunk.type == "eXIf") return orientation_of_exif(chunk.data);
  }
  return 1;
}

int orientation_of(std::string_view bytes, const fs::path& file) {
  if (bytes.starts_with(png::kSignature)) return orientation_of_png(bytes, file);
  return is_jpeg(bytes) ? orientation_of_jpeg(bytes) : 1;
}

// Grey spread over three channels; transparent parts over white, as A1111 and most viewers show them.
Image opaque_rgb(const Decoded& in) {
  Image out{in.width, in.height, {}};
  const std::size_t count = std::size_t{1} * in.width * in.height;
  out.pixels.resize(3 * count);
  const bool grey = in.channels <= 2, alpha = in.channels == 2 || in.channels == 4;
  for (std::size_t i = 0; i < count; ++i) {
    const uint8_t* from = &in.pixels[i * in.channels];
    const int opacity = alpha ? from[in.channels - 1] : 255;
    for (int c = 0; c < 3; ++c) {
      const int value = from[grey ? 0 : c];
      out.pixels[3 * i + c] = static_cast<uint8_t>((value * opacity + 255 * (255 - opacity) + 127) / 255);
    }
  }
  return out;
}

// Exif's eight orientations: where the pixel (x, y) of the upright picture lies in the stored one of `w` x `h`.
std::pair<int, int> stored_position(int orientation, int x, int y, int w, int h) {
  switch (orientation) {
    case 2:
      return {w - 1 - x, y};
    case 3:
      return {w - 1 - x, h - 1 - y};
    case 4:
      return {x, h - 1 - y};
    case 5:
      return {y, x};
    case 6:
      return {y, h - 1 - x};
    case 7:
      return {w - 1 - y, h - 1 - x};
    case 8:
      return {w - 1 - y, x};
    default:
      return {x, y};
  }
}

Image upright(Image stored, int orientation) {
  if (orientation == 1) return stored;
  const bool turned = orientation >= 5;
  Image out{turned ? stored.height : stored.width, turned ? stored.width : stored.height, {}};
  out.pixels.resize(stored.pixels.size());
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const auto [sx, sy] = stored_position(orientation, x, y, stored.width, stored.height);
      std::copy_n(&stored.pixels[3 * (std::size_t{1} * sy * stored.width + sx)], 3,
                  &out.pixels[3 * (std::size_t{1} * y * out.width + x)]);
    }
  }
  return out;
}

}  // namespace

std::pair<int, int> picture_size(const fs::path& file) {
  const std::string bytes = read_bytes(file);
  if (const char* format = other_format(bytes)) refuse(file, format);
  const int orientation = orientation_of(bytes, file);
  std::string why;
  const auto size = size_in_header(bytes, why);
  if (!size) refuse(file, is_jpeg(bytes) || bytes.starts_with("BM") ? "its header is damaged or cut off" : why);
  const bool turned = orientation >= 5;
  return turned ? std::pair(size->second, size->first) : *size;
}

Image read_picture(const fs::path& file) {
  const std::string bytes = read_bytes(file);
  if (const char* format = other_format(bytes)) refuse(file, format);
  const int orientation = orientation_of(bytes, file);
  std::string why;
  const std::optional<Decoded> decoded = decode(bytes, why);
  if (!decoded) refuse(file, why);
  return upright(opaque_rgb(*decoded), orientation);
}

}  // namespace easel
