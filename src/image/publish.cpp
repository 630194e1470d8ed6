#include "image/publish.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace easel {

namespace fs = std::filesystem;

int publish_over(const fs::path& temporary, const fs::path& target) {
  return ::rename(temporary.c_str(), target.c_str()) == 0 ? 0 : errno;
}

int publish_by_link(const fs::path& temporary, const fs::path& target) {
  if (::link(temporary.c_str(), target.c_str()) != 0) return errno;
  ::unlink(temporary.c_str());
  return 0;
}

int publish_by_exclusive_rename(const fs::path& temporary, const fs::path& target) {
  const int done = ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE);
  return done == 0 ? 0 : errno;
}

int publish_by_checked_rename(const fs::path& temporary, const fs::path& target) {
  struct stat there;
  if (::lstat(target.c_str(), &there) == 0) return EEXIST;
  return errno == ENOENT ? publish_over(temporary, target) : errno;
}

int publish_new(const fs::path& temporary, const fs::path& target) {
  int error = 0;
  // Which errno says "no such thing here" differs from one file system to the next (EPERM, EOPNOTSUPP, ENOSYS, EINVAL);
  // where the fault is another (disk full), the next way meets it again and reports it.
  for (const auto way : {publish_by_link, publish_by_exclusive_rename, publish_by_checked_rename}) {
    error = way(temporary, target);
    if (error == 0 || error == EEXIST) break;
  }
  return error;
}

}  // namespace easel
