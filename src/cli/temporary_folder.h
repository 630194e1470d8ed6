#pragma once

#include <filesystem>

namespace easel::cli {

// A folder beside the target that becomes the target, or vanishes.
class TemporaryFolder {
 public:
  // Throws Error(kFile).
  explicit TemporaryFolder(const std::filesystem::path& target);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // Throws Error(kFile) when the target is there by now.
  void commit();

 private:
  std::filesystem::path target_, path_;
};

}  // namespace easel::cli
