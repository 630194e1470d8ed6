#include "image/stb.h"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "image/png_chunks.h"

namespace {

// A few kilobytes of zlib stream can unpack to gigabytes, whatever size the header states; stb would hold it all.
thread_local std::size_t allocation_limit = 0;
thread_local bool limit_was_hit = false;

void* limited_realloc(void* block, std::size_t size) {
  if (size > allocation_limit) limit_was_hit = true;
  return limit_was_hit ? nullptr : std::realloc(block, size);
}

// In place of stb's own compressor, which knows fixed trees only. Run-length matching after PNG's filters: against
// stb's fastest level a 512x512 photograph takes 18 ms instead of 39 and 490 kB instead of 681.
unsigned char* zlib_compress(unsigned char* data, int size, int* packed_size, int) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, MAX_WBITS, MAX_MEM_LEVEL, Z_RLE) != Z_OK) return nullptr;
  const uLong bound = deflateBound(&stream, static_cast<uLong>(size));
  auto* packed = static_cast<unsigned char*>(std::malloc(bound));  // stb frees it
  if (packed != nullptr) {
    stream.next_in = data;
    stream.avail_in = static_cast<uInt>(size);
    stream.next_out = packed;
    stream.avail_out = static_cast<uInt>(bound);
    deflate(&stream, Z_FINISH);
    *packed_size = static_cast<int>(stream.total_out);
  }
  deflateEnd(&stream);
  return packed;
}

}  // namespace

#define STBI_MALLOC(size) std::malloc(size)
#define STBI_REALLOC(block, size) limited_realloc(block, size)
#define STBI_FREE(block) std::free(block)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_ONLY_TGA
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 16384
#include <stb_image.h>

#define STBIW_ZLIB_COMPRESS zlib_compress
#define STBIW_CRC32(bytes, size) static_cast<unsigned int>(crc32(0, bytes, static_cast<uInt>(size)))
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>

namespace easel {

namespace {

using Pixels = std::unique_ptr<stbi_uc, decltype(&stbi_image_free)>;

// stb doubles its buffers: one for the IDAT data of all chunks, one for the unpacked rows, which have at most 4
// channels of 16 bits and, interlaced, a filter byte in each of 7 passes.
void limit_allocations(std::size_t file_size, std::size_t width, std::size_t height) {
  constexpr std::size_t kSmallest = 16384;
  allocation_limit = 2 * std::max({file_size, width * height * 8 + 7 * height, kSmallest});
  limit_was_hit = false;
}

std::string failure() {
  return limit_was_hit ? "its pixel data unpack to more than its size holds" : stbi_failure_reason();
}

// Bytes handed out through stb's callbacks, which tell what a buffer does not: whether it asked for more than is there.
struct Reader {
  std::string_view rest;
  bool ran_out = false;
};

int read_bytes(void* user, char* data, int size) {
  auto& reader = *static_cast<Reader*>(user);
  const std::size_t count = std::min(reader.rest.size(), static_cast<std::size_t>(size));
  // stb fills its buffer of 128 bytes ahead of need; every other size is what it needs.
  constexpr int kReadAhead = 128;
  if (count == 0 || (count < static_cast<std::size_t>(size) && size != kReadAhead)) reader.ran_out = true;
  std::copy_n(reader.rest.data(), count, data);
  reader.rest.remove_prefix(count);
  return static_cast<int>(count);
}

void skip_bytes(void* user, int count) {
  auto& reader = *static_cast<Reader*>(user);
  if (count > static_cast<int64_t>(reader.rest.size())) reader.ran_out = true;
  if (count > 0) reader.rest.remove_prefix(std::min(reader.rest.size(), static_cast<std::size_t>(count)));
}

int is_at_end(void* user) { return static_cast<Reader*>(user)->rest.empty(); }

constexpr stbi_io_callbacks kCallbacks = {read_bytes, skip_bytes, is_at_end};

}  // namespace

std::optional<std::pair<int, int>> size_in_header(std::string_view bytes, std::string& why) {
  int width = 0, height = 0, channels = 0;
  Reader header{bytes};
  if (!stbi_info_from_callbacks(&kCallbacks, &header, &width, &height, &channels)) {
    why = stbi_failure_reason();
    return std::nullopt;
  }
  if (width < 1 || height < 1 || width > kMaxPictureSide || height > kMaxPictureSide) {
    why = "its size is " + std::to_string(width) + "x" + std::to_string(height) + ", expected 1 to " +
          std::to_string(kMaxPictureSide) + " pixels a side";
    return std::nullopt;
  }
  return std::pair(width, height);
}

std::optional<Decoded> decode(std::string_view bytes, std::string& why) {
  const auto size = size_in_header(bytes, why);
  if (!size) return std::nullopt;
  Decoded out{size->first, size->second, 0, {}};
  limit_allocations(bytes.size(), static_cast<std::size_t>(out.width), static_cast<std::size_t>(out.height));
  Reader reader{bytes};
  const Pixels pixels(stbi_load_from_callbacks(&kCallbacks, &reader, &out.width, &out.height, &out.channels, 0),
                      &stbi_image_free);
  if (!pixels || reader.ran_out) {
    why = reader.ran_out && !limit_was_hit ? "it ends before its pixels do" : failure();
    return std::nullopt;
  }
  out.pixels.assign(pixels.get(), pixels.get() + std::size_t{1} * out.width * out.height * out.channels);
  return out;
}

namespace png {

std::string compress(const Image& image) {
  std::string bytes;
  const auto append = [](void* out, void* data, int size) {
    static_cast<std::string*>(out)->assign(static_cast<const char*>(data), static_cast<std::size_t>(size));
  };
  if (!stbi_write_png_to_func(append, &bytes, image.width, image.height, 3, image.pixels.data(), 0)) {
    throw Error(ErrorKind::kMemory, "no memory left to pack a picture of " + std::to_string(image.width) + "x" +
                                        std::to_string(image.height) + " pixels as PNG");
  }
  return bytes;
}

std::optional<Image> decompress(std::string_view bytes, std::string& why) {
  const std::size_t width = read_big_endian(bytes.substr(16, 4)), height = read_big_endian(bytes.substr(20, 4));
  limit_allocations(bytes.size(), width, height);
  Image image;
  const Pixels pixels(stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(bytes.data()),
                                            static_cast<int>(bytes.size()), &image.width, &image.height, nullptr, 3),
                      &stbi_image_free);
  if (!pixels) {
    why = failure();
    return std::nullopt;
  }
  image.pixels.assign(pixels.get(), pixels.get() + width * height * 3);
  return image;
}

}  // namespace png

}  // namespace easel
