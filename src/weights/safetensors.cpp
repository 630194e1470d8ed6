// The safetensors format (https://github.com/huggingface/safetensors#format): 8 bytes of header length, little-endian;
// the JSON header; the tensors' bytes.
#include <cstring>

#include "easel/weights.h"
#include "weights/mapped_file.h"
#include "weights/safetensors_header.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // the reference's limit

// What people have in place of a safetensors file; null when the bytes say nothing.
const char* impostor(std::string_view bytes) {
  if (bytes.starts_with("version https://git-lfs")) return "a git-lfs pointer; `git lfs pull` fetches the file itself";
  if (bytes.starts_with("PK\x03\x04")) return "a PyTorch checkpoint (zip); get the .safetensors file of the model";
  if (bytes.starts_with("<!DOCTYPE") || bytes.starts_with("<html")) return "a web page; download the file itself";
  return nullptr;
}

// Header and data of the file's bytes.
std::pair<std::string_view, std::string_view> split(std::string_view bytes, const std::string& where) {
  const auto fail = [&](const std::string& fault) {
    const char* other = impostor(bytes);
    throw Error(ErrorKind::kFile, where + ": " + fault, other ? "this is " + std::string(other) : kDamagedFile);
  };
  if (bytes.size() < kLengthBytes)
    fail("expected 8 bytes of header length, the file has " + std::to_string(bytes.size()));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kMaxHeader) fail("header length " + std::to_string(length) + " is above the format's limit of 100 MB");
  const std::string_view rest = bytes.substr(kLengthBytes);
  if (length > rest.size()) {
    fail("header length " + std::to_string(length) + " is beyond the file's end (" + std::to_string(rest.size()) +
         " bytes follow)");
  }
  return {rest.substr(0, length), rest.substr(length)};
}

class SafetensorsFile : public WeightSource {
 public:
  explicit SafetensorsFile(const fs::path& path) : path_(path), file_(MappedFile::open(path)) {
    const auto [header, data] = split(file_->bytes(), path.string());
    data_ = data;
    SafetensorsHeader parsed = parse_safetensors_header(header, data.size(), path.string());
    tensors_ = std::move(parsed.tensors), metadata_ = std::move(parsed.metadata);
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    names.reserve(tensors_.size());
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }

  std::optional<TensorInfo> info(const std::string& name) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return std::nullopt;
    return TensorInfo{found->second.shape, found->second.dtype->type};
  }

  using WeightSource::load;
  Tensor load(const std::string& name) const override {
    const StoredTensor& tensor = tensors_.at(name);
    if (!tensor.dtype->loadable) {
      throw Error(
          ErrorKind::kFile,
          describe() + ": tensor " + shown_name(name) + " is " + tensor.dtype->name + ", which is not supported",
          "convert the file to F16 or F32");
    }
    const std::string_view bytes = bytes_of(tensor);
    const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
    return address % static_cast<std::uintptr_t>(tensor.dtype->width) == 0 ? view(tensor) : copy(tensor);
  }

  void drop_pages(const std::string& name) const override { file_->drop_pages(bytes_of(tensors_.at(name))); }
  std::map<std::string, std::string> metadata() const override { return metadata_; }
  std::vector<fs::path> files() const override { return {path_}; }
  std::string describe() const override { return path_.string(); }

 private:
  std::string_view bytes_of(const StoredTensor& tensor) const {
    return data_.substr(tensor.begin, tensor.end - tensor.begin);
  }

  Tensor view(const StoredTensor& tensor) const {
    void* data = const_cast<char*>(bytes_of(tensor).data());
    const auto keep_mapped = [file = file_](void*) {};
    return at::from_blob(data, tensor.shape, keep_mapped, at::TensorOptions(tensor.dtype->type));
  }

  // For files whose header length is no multiple of the width: C++ forbids reading such numbers in place.
  Tensor copy(const StoredTensor& tensor) const {
    const std::string_view bytes = bytes_of(tensor);
    Tensor out = at::empty(tensor.shape, at::TensorOptions(tensor.dtype->type));
    if (!bytes.empty()) std::memcpy(out.data_ptr(), bytes.data(), bytes.size());
    file_->drop_pages(bytes);
    return out;
  }

  fs::path path_;
  std::shared_ptr<const MappedFile> file_;
  std::string_view data_;
  StoredTensors tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace

SourcePtr open_safetensors(const fs::path& file) { return std::make_shared<SafetensorsFile>(file); }

}  // namespace easel
