#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <cerrno>
#include <random>
#include <system_error>

#include "easel/image.h"
#include "image/descriptor.h"
#include "image/held_signals.h"
#include "image/publish.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& name, const std::string& reason, const std::string& hint = "") {
  throw Error(ErrorKind::kFile, name + ": cannot be written: " + reason, hint);
}

[[noreturn]] void fail_with(const std::string& name, int error) {
  const bool no_room = error == ENOSPC || error == EDQUOT;
  fail(name, std::generic_category().message(error), no_room ? "make room, or write to another disk" : "");
}

[[noreturn]] void fail_as_taken(const fs::path& target) {
  fail(target.string(), "the file exists", "--overwrite replaces it");
}

fs::path folder_of(const fs::path& target) { return target.has_parent_path() ? target.parent_path() : fs::path("."); }

// A picture replaces files only; a rename would put it in the place of /dev/null or of a pipe too.
void check_target(const fs::path& target, bool overwrite) {
  const std::string name = target.filename().string();
  if (name.empty() || name == "." || name == "..") fail(target.string(), "it is not the name of a file");
  struct stat there;
  if (::lstat(target.c_str(), &there) != 0) {
    if (errno != ENOENT) fail_with(target.string(), errno);
    return;
  }
  const bool is_link = S_ISLNK(there.st_mode);
  if (is_link && ::stat(target.c_str(), &there) != 0) there.st_mode = S_IFREG;  // a link to nothing can be replaced
  if (S_ISDIR(there.st_mode)) fail(target.string(), "it is a folder", "name a file in it");
  if (!S_ISREG(there.st_mode)) fail(target.string(), "it is a device or a pipe", "-o - writes to standard output");
  if (!overwrite) fail_as_taken(target);
}

// Writes until all is written. `wait` is called when the descriptor does not take more at the moment (EAGAIN) or a
// signal came (EINTR). Returns 0 or an errno.
template <typename Wait>
int write_all(int fd, std::string_view bytes, const Wait& wait) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EINTR || errno == EAGAIN) {
      wait();
    } else {
      return errno;
    }
  }
  return 0;
}

// A new file beside the target, removed at the end of the scope unless it was published.
class Temporary {
 public:
  explicit Temporary(const fs::path& target) : target_(target), path_(unused_path(target)), fd_(create()) {}
  ~Temporary() {
    if (!published_) ::unlink(path_.c_str());
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

  void write(std::string_view bytes) {
    const HeldWriteSignals held;
    int error = write_all(fd_.get(), bytes, [] {});
    if (error == 0 && ::fsync(fd_.get()) != 0) error = errno;
    if (error == 0 && !fd_.close()) error = errno;
    if (error != 0) fail_with(target_.string(), error);
  }

  void publish(bool overwrite) {
    const int error = overwrite ? publish_over(path_, target_) : publish_new(path_, target_);
    if (error == EEXIST && !overwrite) fail_as_taken(target_);
    if (error != 0) fail_with(target_.string(), error);
    published_ = true;
  }

 private:
  // Not made of the target's name, which may be as long as a name can be.
  static fs::path unused_path(const fs::path& target) {
    std::random_device random;
    const uint64_t number = uint64_t{random()} << 32 | random();
    return folder_of(target) / (".easel-" + std::to_string(number) + ".tmp");
  }

  int create() const {
    const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return fd;
    const int error = errno;
    const std::string folder = folder_of(target_).string();
    std::error_code ignored;  // a folder that cannot be looked at is there
    if (error == ENOENT && !fs::exists(folder, ignored)) {
      fail(target_.string(), "there is no folder " + folder, "make it first: mkdir -p " + folder);
    }
    fail(target_.string(), "no file can be made in folder " + folder + ": " + std::generic_category().message(error));
  }

  fs::path target_, path_;
  Descriptor fd_;
  bool published_ = false;
};

// Makes the new name last through a power cut. Best effort: the file is there, and some file systems refuse this.
void sync_folder(const fs::path& folder) {
  const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) ::fsync(fd.get());
}

}  // namespace

void write_file_atomically(const fs::path& target, std::string_view bytes, bool overwrite) {
  check_target(target, overwrite);
  Temporary temporary(target);
  temporary.write(bytes);
  temporary.publish(overwrite);
  sync_folder(folder_of(target));
}

void write_to_descriptor(int fd, std::string_view bytes, const std::string& name) {
  const HeldWriteSignals held;
  const int error = write_all(fd, bytes, [fd] {
    check_interrupted();
    pollfd writable{fd, POLLOUT, 0};
    ::poll(&writable, 1, -1);
    check_interrupted();
  });
  if (error == EPIPE) fail(name, "the program that reads it has closed it (EPIPE)");
  if (error != 0) fail_with(name, error);
}

}  // namespace easel
