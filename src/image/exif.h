// The orientation a camera notes beside the pixels (Exif 2.32, tag 0x0112).
#pragma once

#include <string_view>

namespace easel {

// Of an Exif block that begins with its TIFF header ("II*\0" or "MM\0*"): 1 to 8; 1 where there is none.
int orientation_of_exif(std::string_view tiff);

// Of a whole JPEG file: its first Exif segment's; 1 where there is none.
int orientation_of_jpeg(std::string_view bytes);

}  // namespace easel
