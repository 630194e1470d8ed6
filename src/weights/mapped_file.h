#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

namespace easel {

// A regular file mapped for reading. Throws Error(kFile) with the system's reason.
//
// The size is taken once, at opening: whoever truncates the file in place while it is mapped makes reads beyond its end
// fail with SIGBUS. Files replaced by rename, as downloaders and our writer do, are safe.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {data_, size_}; }
  // Gives back the whole pages inside `part` of bytes(); they are read again from the file when touched.
  void drop_pages(std::string_view part) const;

 private:
  MappedFile(const char* data, std::size_t size) : data_(data), size_(size) {}

  const char* data_;
  std::size_t size_;
};

}  // namespace easel
