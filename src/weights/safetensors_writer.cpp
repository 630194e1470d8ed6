#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "easel/weights.h"
#include "weights/dtypes.h"
#include "weights/finite.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

struct Item {
  std::string name;
  TensorInfo info;           // as it is written
  const StoredDtype* dtype;  // of info
  int64_t bytes() const { return c10::multiply_integers(info.shape) * dtype->width; }
};

bool is_converted(at::ScalarType stored, std::optional<at::ScalarType> dtype) {
  return dtype && stored != *dtype && c10::isFloatingType(stored);
}

std::vector<Item> in_file_order(const WeightSource& tensors, std::optional<at::ScalarType> dtype) {
  std::vector<Item> items;
  for (const std::string& name : tensors.names()) {
    TORCH_CHECK(name != "__metadata__", "a tensor cannot be called __metadata__");
    TensorInfo info = tensors.info(name).value();
    if (is_converted(info.dtype, dtype)) info.dtype = *dtype;
    const StoredDtype* stored = find_stored_dtype(info.dtype);
    TORCH_CHECK(stored, "safetensors has no dtype for ", info.dtype, " (tensor ", name, ")");
    items.push_back({name, std::move(info), stored});
  }
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return std::pair(-a.dtype->width, std::string_view(a.name)) < std::pair(-b.dtype->width, std::string_view(b.name));
  });
  return items;
}

// Header length, header, and blanks up to a multiple of 8, so that the data are aligned.
std::string begin_of_file(const std::vector<Item>& items, const Metadata& more) {
  nlohmann::ordered_json header;
  header["__metadata__"]["format"] = "pt";  // transformers refuses files without it
  for (const auto& [key, value] : more) header["__metadata__"][key] = value;
  int64_t offset = 0;
  for (const Item& item : items) {
    const int64_t end = offset + item.bytes();
    header[item.name] = {{"dtype", item.dtype->name}, {"shape", item.info.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    throw Error(ErrorKind::kFile, "names or metadata that are not UTF-8 cannot be written as safetensors");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

// Contiguous, on the CPU, in the item's dtype.
Tensor written_form(const WeightSource& tensors, const Item& item) {
  const Tensor stored = tensors.load(item.name).detach().to(at::kCPU);
  const Tensor converted = stored.to(item.info.dtype).contiguous();
  TORCH_CHECK(converted.sizes().equals(item.info.shape), item.name, ": its shape is not that of its source's info()");
  if (converted.element_size() < stored.element_size() && !all_finite(converted) && all_finite(stored)) {
    throw Error(ErrorKind::kFile,
                tensors.describe() + ": tensor " + shown_name(tensors.stored_name(item.name)) +
                    " has values beyond the range of " + item.dtype->name,
                "choose bf16 or f32, or leave the dtype as it is");
  }
  return converted;
}

// A file beside the target that becomes the target, or vanishes.
class AtomicFile {
 public:
  explicit AtomicFile(const fs::path& target)
      : target_(target), temporary_(target.string() + ".part-" + std::to_string(::getpid())) {
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0) fail();
  }
  ~AtomicFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(temporary_.c_str());
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const char* data, std::size_t size) {
    while (size > 0) {
      const ssize_t written = ::write(fd_, data, size);
      if (written < 0 && errno != EINTR) fail();
      if (written > 0) data += written, size -= static_cast<std::size_t>(written);
    }
  }

  void commit() {
    if (::fsync(fd_) != 0 || ::rename(temporary_.c_str(), target_.c_str()) != 0) fail();
    ::close(fd_);
    fd_ = -1;
  }

 private:
  [[noreturn]] void fail() const {
    throw Error(ErrorKind::kFile, target_.string() + ": cannot be written: " + std::generic_category().message(errno));
  }

  fs::path target_, temporary_;
  int fd_ = -1;
};

}  // namespace

void write_safetensors(const fs::path& file, const WeightSource& tensors, std::optional<at::ScalarType> dtype,
                       const Metadata& more) {
  const std::vector<Item> items = in_file_order(tensors, dtype);
  const std::string begin = begin_of_file(items, more);
  AtomicFile out(file);
  out.write(begin.data(), begin.size());
  for (const Item& item : items) {
    check_interrupted();
    const Tensor data = written_form(tensors, item);
    out.write(static_cast<const char*>(data.const_data_ptr()), data.nbytes());
    tensors.drop_pages(item.name);
  }
  out.commit();
}

void write_safetensors(const fs::path& file, const std::vector<std::pair<std::string, Tensor>>& tensors) {
  write_safetensors(file, *tensor_source(tensors, file.string()));
}

}  // namespace easel
