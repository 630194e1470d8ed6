#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <system_error>

#include "batch/manifest_lines.h"
#include "easel/manifest.h"

namespace easel {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kSyncEvery{5};

[[noreturn]] void fail(const fs::path& file, const std::string& what, int error) {
  throw Error(ErrorKind::kFile, file.string() + ": " + what + ": " + std::generic_category().message(error));
}

uint64_t size_of(int fd, const fs::path& file) {
  struct stat status;
  if (::fstat(fd, &status) != 0) fail(file, "cannot be looked at", errno);
  return static_cast<uint64_t>(status.st_size);
}

}  // namespace

struct ManifestWriter::State {
  // Opens and locks.
  explicit State(const fs::path& file) : file(file), fd(::open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC)) {
    if (fd < 0) fail(file, "cannot be opened for writing", errno);
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      ::close(fd);
      if (error != EWOULDBLOCK) fail(file, "cannot be locked", error);
      throw Error(ErrorKind::kFile, file.string() + ": another process is writing to it",
                  "wait for it, or name another --manifest");
    }
  }
  ~State() {
    ::fdatasync(fd);
    ::close(fd);
  }

  void cut_to(uint64_t size) {
    if (::ftruncate(fd, static_cast<off_t>(size)) != 0) fail(file, "cannot be cut", errno);
    bytes = size;
  }

  fs::path file;
  int fd;
  ManifestHeader header = {};
  uint64_t bytes = 0;
  Clock::time_point synced = Clock::now();
};

ManifestWriter::ManifestWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
ManifestWriter::~ManifestWriter() = default;
ManifestWriter::ManifestWriter(ManifestWriter&&) noexcept = default;

ManifestWriter ManifestWriter::create(const fs::path& file, const ManifestHeader& header) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(file, error)))
    throw Error(ErrorKind::kUsage, file.string() + " exists: it is the manifest of another run",
                "--resume goes on with that run, --manifest names another file");
  write_file_atomically(file, line_of(header), /*overwrite=*/false);
  auto state = std::make_unique<State>(file);
  state->header = header;
  state->bytes = size_of(state->fd, file);
  return ManifestWriter(std::move(state));
}

ManifestWriter ManifestWriter::resume(const fs::path& file, const RunIdentity& run) {
  auto state = std::make_unique<State>(file);
  const ManifestReader there(file);  // after the lock: nobody writes while it is read
  state->header = there.header();
  ManifestHeader ours = state->header;
  ours.base_seed = run.base_seed.value_or(ours.base_seed);
  ours.batch_size = run.batch_size.value_or(ours.batch_size);
  ours.shard_count = run.shard.count;
  ours.shards = {run.shard.index};
  ours.command = run.command;
  Faults faults;
  for (const std::string& fault : header_differences(ours, "this run", state->header, file.string())) faults.add(fault);
  if (ours.shard_count == state->header.shard_count && ours.shards != state->header.shards)
    faults.add("this run is shard " + to_string(run.shard) + ", " + file.string() + " is of shards " +
               json(state->header.shards).dump());
  faults.raise_if_any(ErrorKind::kUsage, "resume with the flags of the first run, or name another --manifest");
  state->cut_to(there.whole_bytes());
  return ManifestWriter(std::move(state));
}

const ManifestHeader& ManifestWriter::header() const { return state_->header; }

void ManifestWriter::add(const ManifestRecord& record) {
  State& s = *state_;
  const std::string line = line_of(record, s.file.parent_path());
  try {
    write_to_descriptor(s.fd, line, s.file.string());
  } catch (...) {  // a line that was begun goes again: the next one would be glued to it
    if (::ftruncate(s.fd, static_cast<off_t>(s.bytes)) != 0) log::verbose(s.file.string() + ": ends in a torn line");
    throw;
  }
  s.bytes += line.size();
  if (Clock::now() - s.synced >= kSyncEvery) sync();
}

void ManifestWriter::sync() {
  if (::fdatasync(state_->fd) != 0) fail(state_->file, "cannot be written", errno);
  state_->synced = Clock::now();
}

}  // namespace easel
