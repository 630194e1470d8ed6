#include "cli/temporary_folder.h"

#include <unistd.h>

#include "easel/core.h"

namespace easel::cli {

namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder(const fs::path& target)
    : target_(target), path_(target.string() + ".part-" + std::to_string(::getpid())) {
  std::error_code error;
  if (!fs::create_directory(path_, error))
    throw Error(ErrorKind::kFile, target.string() + ": cannot be written: " +
                                      (error ? error.message() : path_.string() + " is in the way"));
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void TemporaryFolder::commit() {
  std::error_code error;
  fs::rename(path_, target_, error);
  if (error) throw Error(ErrorKind::kFile, target_.string() + ": cannot be written: " + error.message());
  path_.clear();
}

}  // namespace easel::cli
