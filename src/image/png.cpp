// PNG files: pixels through stb, text chunks by hand. PNG 1.2 is the specification, section 4.2.3 that of text chunks.
#include <algorithm>

#include "easel/image.h"
#include "image/png_chunks.h"
#include "image/stb.h"
#include "image/text_encoding.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

// ---- writing -------------------------------------------------------------------------------------------------------

bool is_keyword(std::string_view latin1) {
  const auto printable = [](char c) {
    const uint8_t code = static_cast<uint8_t>(c);
    return (code >= 0x20 && code <= 0x7E) || code >= 0xA1;
  };
  return !latin1.empty() && latin1.size() <= 79 && std::all_of(latin1.begin(), latin1.end(), printable) &&
         latin1.front() != ' ' && latin1.back() != ' ' && latin1.find("  ") == std::string_view::npos;
}

void append_text_chunk(std::string& out, const PngText& entry) {
  const auto keyword = png::is_utf8(entry.keyword) ? png::latin1_from_utf8(entry.keyword) : std::nullopt;
  TORCH_CHECK(keyword && is_keyword(*keyword), "not a keyword of a PNG text chunk: \"", entry.keyword, "\"");
  const std::string name = "the text \"" + entry.keyword + "\" of the picture";
  const std::size_t nul = entry.text.find('\0');
  if (nul != std::string::npos) {
    throw Error(ErrorKind::kUsage, name + ": no PNG holds the NUL at its byte " + std::to_string(nul));
  }
  if (!png::is_utf8(entry.text)) throw Error(ErrorKind::kUsage, name + ": it is not valid UTF-8");
  if (const auto latin1 = png::latin1_from_utf8(entry.text)) {
    png::append_chunk(out, "tEXt", *keyword + '\0' + *latin1);
  } else {
    // not compressed, method 0, no language, no translated keyword
    png::append_chunk(out, "iTXt", *keyword + std::string(5, '\0') + entry.text);
  }
}

// ---- reading -------------------------------------------------------------------------------------------------------

// Takes the part up to the next NUL from `data`.
std::string_view take_field(std::string_view& data, const std::string& chunk, const fs::path& file) {
  const std::size_t end = data.find('\0');
  if (end == std::string_view::npos) png::fail(file, chunk + ": a field has no end (NUL)");
  const std::string_view field = data.substr(0, end);
  data.remove_prefix(end + 1);
  return field;
}

PngText international_text(std::string keyword, std::string_view data, const std::string& chunk, const fs::path& file) {
  if (data.size() < 2) png::fail(file, chunk + ": it is too short");
  if (data[0] != 0) png::fail(file, chunk + ": compressed text is not read");
  data.remove_prefix(2);
  for (const char* name : {"language", "translated keyword"}) take_field(data, chunk + ": its " + name, file);
  if (data.find('\0') != std::string_view::npos) png::fail(file, chunk + ": a NUL in its text");
  if (!png::is_utf8(data)) png::fail(file, chunk + ": its text is not valid UTF-8");
  return {std::move(keyword), std::string(data)};
}

PngText text_of(const png::Chunk& chunk, const fs::path& file) {
  std::string_view data = chunk.data;
  std::string name = std::string(chunk.type) + " chunk";
  const std::string_view latin1 = take_field(data, name, file);
  if (!is_keyword(latin1)) png::fail(file, name + ": its keyword is none (1 to 79 printable Latin-1 characters)");
  std::string keyword = png::utf8_from_latin1(latin1);
  name += " \"" + keyword + "\"";
  if (chunk.type == "zTXt") png::fail(file, name + ": compressed text is not read");
  if (chunk.type == "iTXt") return international_text(std::move(keyword), data, name, file);
  if (data.find('\0') != std::string_view::npos) png::fail(file, name + ": a NUL in its text");
  return {std::move(keyword), png::utf8_from_latin1(data)};
}

void check_size(const png::Chunk& header, const fs::path& file) {
  const uint32_t width = png::read_big_endian(header.data);
  const uint32_t height = png::read_big_endian(header.data.substr(4));
  if (width >= 1 && height >= 1 && width <= kMaxPictureSide && height <= kMaxPictureSide) return;
  png::fail(file, "its size is " + std::to_string(width) + "x" + std::to_string(height) + ", expected 1 to " +
                      std::to_string(kMaxPictureSide) + " pixels a side");
}

}  // namespace

std::string encode_png(const Image& image, const std::vector<PngText>& texts) {
  TORCH_CHECK(image.width >= 1 && image.height >= 1 && image.width <= kMaxPictureSide &&
                  image.height <= kMaxPictureSide && image.pixels.size() == std::size_t{3} * image.width * image.height,
              "not a picture: ", image.width, "x", image.height, " with ", image.pixels.size(), " bytes");
  std::string chunks;
  for (const PngText& entry : texts) append_text_chunk(chunks, entry);
  std::string bytes = png::compress(image);
  return bytes.insert(png::kHeaderEnd, chunks);
}

std::vector<PngText> read_png_texts(const fs::path& file) {
  const std::string bytes = png::read_png_bytes(file);
  std::vector<PngText> texts;
  for (const png::Chunk& chunk : png::chunks_of(bytes, file)) {
    if (chunk.type == "tEXt" || chunk.type == "zTXt" || chunk.type == "iTXt") texts.push_back(text_of(chunk, file));
  }
  return texts;
}

Image read_png(const fs::path& file) {
  const std::string bytes = png::read_png_bytes(file);
  const std::vector<png::Chunk> chunks = png::chunks_of(bytes, file);
  check_size(chunks.front(), file);
  const bool has_pixels = std::any_of(chunks.begin(), chunks.end(), [](const png::Chunk& chunk) {
    return chunk.type == "IDAT" && !chunk.data.empty();
  });
  if (!has_pixels) png::fail(file, "it has no pixel data (IDAT)");
  std::string why;
  std::optional<Image> image = png::decompress(bytes, why);
  if (!image) png::fail(file, why);
  return std::move(*image);
}

}  // namespace easel
