#include "image/exif.h"

#include <cstdint>
#include <optional>

namespace easel {

namespace {

// Numbers of a TIFF block in its own byte order; nullopt past its end.
class Tiff {
 public:
  explicit Tiff(std::string_view bytes) : bytes_(bytes), big_(bytes.starts_with("MM")) {}

  std::optional<uint32_t> number(std::size_t at, std::size_t width) const {
    if (at > bytes_.size() || bytes_.size() - at < width) return std::nullopt;
    uint32_t value = 0;
    for (std::size_t i = 0; i < width; ++i) {
      const std::size_t shift = 8 * (big_ ? width - 1 - i : i);
      value |= uint32_t{static_cast<uint8_t>(bytes_[at + i])} << shift;
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool big_;
};

constexpr std::size_t kEntry = 12;  // {tag 2, type 2, count 4, value 4}
constexpr uint32_t kOrientation = 0x0112;

}  // namespace

int orientation_of_exif(std::string_view bytes) {
  if (!bytes.starts_with("II") && !bytes.starts_with("MM")) return 1;
  const Tiff tiff(bytes);
  const auto directory = tiff.number(4, 4);
  const auto count = directory ? tiff.number(*directory, 2) : std::nullopt;
  for (uint32_t i = 0; count && i < *count; ++i) {
    const std::size_t entry = std::size_t{*directory} + 2 + kEntry * i;
    const auto tag = tiff.number(entry, 2);
    if (!tag) return 1;
    if (*tag != kOrientation) continue;
    const auto value = tiff.number(entry + 8, 2);
    return value && *value >= 1 && *value <= 8 ? static_cast<int>(*value) : 1;
  }
  return 1;
}

int orientation_of_jpeg(std::string_view bytes) {
  constexpr std::string_view kExif{"Exif\0\0", 6};
  std::size_t at = 2;  // after the start marker
  while (at + 4 <= bytes.size() && static_cast<uint8_t>(bytes[at]) == 0xFF) {
    const auto marker = static_cast<uint8_t>(bytes[at + 1]);
    if (marker == 0xFF) {  // padding
      ++at;
      continue;
    }
    constexpr uint8_t kStartOfScan = 0xDA, kApp1 = 0xE1;
    if (marker == kStartOfScan) return 1;
    const std::size_t length =
        std::size_t{static_cast<uint8_t>(bytes[at + 2])} << 8 | static_cast<uint8_t>(bytes[at + 3]);
    if (length < 2) return 1;
    const std::string_view data = bytes.substr(at + 4, length - 2);
    if (marker == kApp1 && data.starts_with(kExif)) return orientation_of_exif(data.substr(kExif.size()));
    at += 2 + length;
  }
  return 1;
}

}  // namespace easel
