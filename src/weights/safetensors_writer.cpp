#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "easel/weights.h"
#include "weights/dtypes.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

struct Item {
  std::string name;
  Tensor data;  // contiguous, on the CPU
  const StoredDtype* dtype;
};

std::vector<Item> in_file_order(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::vector<Item> items;
  items.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const StoredDtype* dtype = find_stored_dtype(tensor.scalar_type());
    TORCH_CHECK(dtype, "safetensors has no dtype for ", tensor.scalar_type(), " (tensor ", name, ")");
    TORCH_CHECK(name != "__metadata__", "a tensor cannot be called __metadata__");
    items.push_back({name, tensor.detach().to(at::kCPU).contiguous(), dtype});
  }
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return std::pair(-a.dtype->width, std::string_view(a.name)) < std::pair(-b.dtype->width, std::string_view(b.name));
  });
  return items;
}

// Header length, header, and blanks up to a multiple of 8, so that the data are aligned.
std::string begin_of_file(const std::vector<Item>& items) {
  nlohmann::ordered_json header;
  header["__metadata__"]["format"] = "pt";  // transformers refuses files without it
  int64_t offset = 0;
  for (const Item& item : items) {
    TORCH_CHECK(!header.contains(item.name), "tensor ", item.name, " is given twice");
    const int64_t end = offset + static_cast<int64_t>(item.data.nbytes());
    header[item.name] = {
        {"dtype", item.dtype->name}, {"shape", item.data.sizes().vec()}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
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

void write_safetensors(const fs::path& file, const std::vector<std::pair<std::string, Tensor>>& tensors) {
  const std::vector<Item> items = in_file_order(tensors);
  const std::string begin = begin_of_file(items);
  AtomicFile out(file);
  out.write(begin.data(), begin.size());
  for (const Item& item : items) out.write(static_cast<const char*>(item.data.const_data_ptr()), item.data.nbytes());
  out.commit();
}

}  // namespace easel
