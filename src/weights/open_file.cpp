#include <array>
#include <cstring>
#include <fstream>

#include "easel/weights.h"

namespace easel {

namespace {

// The zip form's first bytes; the older stream begins with a pickle, whose first opcode is PROTO (0x80) with the
// protocol, 2 unless torch.save was told otherwise.
bool is_torch(std::string_view begin) {
  if (begin.starts_with("PK\x03\x04")) return true;
  return begin.size() > 1 && begin[0] == '\x80' && begin[1] >= 2 && begin[1] <= 5;
}

// A safetensors header of 640 bytes begins like a pickle, too; but a pickle has no "{" eight bytes on.
bool is_safetensors(std::string_view begin) {
  return begin.size() == 9 && begin[8] == '{' && begin.substr(4, 4) == std::string_view("\0\0\0\0", 4);
}

}  // namespace

SourcePtr open_weights_file(const std::filesystem::path& file) {
  std::error_code error;
  std::array<char, 9> bytes{};
  std::string_view begin;
  if (std::filesystem::is_regular_file(file, error)) {
    std::ifstream in(file, std::ios::binary);
    in.read(bytes.data(), bytes.size());
    begin = {bytes.data(), static_cast<std::size_t>(in.gcount())};
  }
  // What is neither, or cannot be read, is safetensors' to refuse: it names what people have in its place.
  return is_torch(begin) && !is_safetensors(begin) ? open_torch_file(file) : open_safetensors(file);
}

}  // namespace easel
