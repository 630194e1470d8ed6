#include <cstring>

#include "easel/weights.h"
#include "weights/mapped_file.h"
#include "weights/torch_containers.h"
#include "weights/torch_names.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

TorchContents read(std::string_view bytes, const std::string& where) {
  if (bytes.starts_with("PK\x03\x04")) return torch_contents(read_torch_zip(bytes, where), where);
  if (bytes.starts_with("\x80")) return torch_contents(read_torch_stream(bytes, where), where);
  throw Error(ErrorKind::kFile, where + ": not a PyTorch checkpoint: neither a zip file nor a pickle",
              "get the file again, or the model as .safetensors");
}

class TorchFile : public WeightSource {
 public:
  explicit TorchFile(const fs::path& path) : path_(path), file_(MappedFile::open(path)) {
    contents_ = read(file_->bytes(), path.string());
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    names.reserve(contents_.tensors.size());
    for (const auto& [name, tensor] : contents_.tensors) names.push_back(name);
    return names;
  }

  std::optional<TensorInfo> info(const std::string& name) const override {
    const auto found = contents_.tensors.find(name);
    if (found == contents_.tensors.end()) return std::nullopt;
    return TensorInfo{found->second.shape, found->second.dtype->type};
  }

  using WeightSource::load;
  Tensor load(const std::string& name) const override {
    const StridedTensor& tensor = contents_.tensors.at(name);
    if (!tensor.dtype->loadable) {
      throw Error(
          ErrorKind::kFile,
          describe() + ": tensor " + shown_name(name) + " is " + tensor.dtype->name + ", which is not supported",
          "convert the file to F16 or F32");
    }
    if (tensor.data.empty()) return at::empty(tensor.shape, at::TensorOptions(tensor.dtype->type));
    const auto address = reinterpret_cast<std::uintptr_t>(tensor.data.data());
    return address % static_cast<std::uintptr_t>(tensor.dtype->width) == 0 ? view(tensor) : copy(tensor);
  }

  void drop_pages(const std::string& name) const override {
    const std::string_view data = contents_.tensors.at(name).data;
    if (!data.empty()) file_->drop_pages(data);
  }
  std::map<std::string, std::string> metadata() const override { return contents_.metadata; }
  std::vector<fs::path> files() const override { return {path_}; }
  std::string describe() const override { return path_.string(); }

 private:
  Tensor view(const StridedTensor& tensor) const {
    void* data = const_cast<char*>(tensor.data.data());
    const auto keep_mapped = [file = file_](void*) {};
    return at::from_blob(data, tensor.shape, tensor.stride, keep_mapped, at::TensorOptions(tensor.dtype->type))
        .contiguous();
  }

  // The older stream aligns nothing: C++ forbids reading such numbers in place.
  Tensor copy(const StridedTensor& tensor) const {
    const auto elements = static_cast<int64_t>(tensor.data.size()) / tensor.dtype->width;
    const Tensor flat = at::empty({elements}, at::TensorOptions(tensor.dtype->type));
    std::memcpy(flat.data_ptr(), tensor.data.data(), tensor.data.size());
    file_->drop_pages(tensor.data);
    return flat.as_strided(tensor.shape, tensor.stride).contiguous();
  }

  fs::path path_;
  std::shared_ptr<const MappedFile> file_;
  TorchContents contents_;
};

}  // namespace

SourcePtr open_torch_file(const fs::path& file) { return std::make_shared<TorchFile>(file); }

}  // namespace easel
