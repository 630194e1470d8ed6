#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <set>
#include <system_error>

#include "batch/manifest_entries.h"
#include "batch/manifest_lines.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostFaults = 20;
constexpr std::size_t kBlock = 1 << 20;

struct Source {
  ManifestEntry entry;
  uint32_t file;
};

}  // namespace

struct ManifestMerger {
  explicit ManifestMerger(const std::vector<fs::path>& files) {
    for (const fs::path& file : files) manifests.emplace_back(file);
  }

  const ManifestReader::State& state(std::size_t file) const { return *manifests[file].state_; }
  std::string name(std::size_t file) const { return state(file).file.string(); }

  void merge_headers() {
    header = manifests[0].header();
    std::set<int64_t> shards;
    for (std::size_t i = 0; i < manifests.size(); ++i) {
      ManifestHeader other = manifests[i].header();
      other.batch_size = header.batch_size;  // each process measures its own
      for (const std::string& fault : header_differences(header, name(0), other, name(i))) add_fault(fault);
      shards.insert(manifests[i].header().shards.begin(), manifests[i].header().shards.end());
    }
    header.shards.assign(shards.begin(), shards.end());
  }

  void merge_entries() {
    for (std::size_t i = 0; i < manifests.size(); ++i) {
      for (const ManifestEntry& entry : state(i).entries) sources.push_back({entry, static_cast<uint32_t>(i)});
    }
    std::stable_sort(sources.begin(), sources.end(),
                     [](const Source& a, const Source& b) { return a.entry.index < b.entry.index; });
    std::size_t kept = 0;
    for (const Source& source : sources) {
      if (kept > 0 && sources[kept - 1].entry.index == source.entry.index) {
        sources[kept - 1] = chosen(sources[kept - 1], source);
      } else {
        sources[kept++] = source;
      }
    }
    sources.resize(kept);
  }

  // Of two records of one picture.
  Source chosen(const Source& a, const Source& b) {
    const std::string which = "picture " + std::to_string(a.entry.index) + " ";
    const std::string where = " in " + name(a.file) + " and " + name(b.file);
    if (a.entry.request_hash != b.entry.request_hash) {
      add_fault(which + "has different requests" + where);
    } else if (a.entry.is_done && b.entry.is_done &&
               state(a.file).record(a.entry).sha256 != state(b.file).record(b.entry).sha256) {
      add_fault(which + "has different bytes (sha256)" + where);
    }
    return b.entry.is_done || !a.entry.is_done ? b : a;
  }

  void add_fault(const std::string& fault) {
    if (faults.list().size() < kMostFaults) {
      faults.add(fault);
    } else {
      ++more;
    }
  }

  void raise_faults() {
    if (more > 0) faults.add("and " + std::to_string(more) + " more conflicts");
    faults.raise_if_any(ErrorKind::kUsage, "these are not shards of one run");
  }

  std::vector<ManifestReader> manifests;
  ManifestHeader header;
  std::vector<Source> sources;  // by picture
  Faults faults;
  int64_t more = 0;
};

namespace {

// A file beside its target that takes its name at the end.
class Replacement {
 public:
  explicit Replacement(const fs::path& target) : target_(target) {
    const std::string number = std::to_string(std::random_device{}()) + std::to_string(::getpid());
    temporary_ = target.parent_path() / (".easel-" + number + ".tmp");
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0) fail(errno);
  }
  ~Replacement() {
    if (fd_ >= 0) ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  void write(std::string_view bytes) { write_to_descriptor(fd_, bytes, target_.string()); }

  void publish(bool overwrite) {
    if (::fsync(fd_) != 0) fail(errno);
    std::error_code error;
    if (!overwrite && fs::exists(fs::symlink_status(target_, error))) fail(EEXIST);  // made while we wrote
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
    temporary_.clear();
  }

 private:
  [[noreturn]] void fail(int error) const {
    throw Error(ErrorKind::kFile, target_.string() + ": cannot be written: " + std::generic_category().message(error));
  }

  fs::path target_, temporary_;
  int fd_ = -1;
};

void check_target(const fs::path& target, bool overwrite) {
  std::error_code error;
  const fs::file_status there = fs::symlink_status(target, error);
  if (!fs::exists(there)) return;
  if (!fs::is_regular_file(there)) throw Error(ErrorKind::kFile, target.string() + ": it is no file");
  if (!overwrite) throw Error(ErrorKind::kUsage, target.string() + " exists", "--overwrite replaces it");
}

}  // namespace

MergeResult merge_manifests(const std::vector<fs::path>& files, const fs::path& target, bool overwrite) {
  if (files.empty()) throw Error(ErrorKind::kUsage, "no manifests to merge");
  check_target(target, overwrite);
  ManifestMerger merger(files);
  merger.merge_headers();
  merger.merge_entries();
  merger.raise_faults();

  MergeResult result;
  Replacement out(target);
  std::string block = line_of(merger.header);
  for (const Source& source : merger.sources) {
    block += line_of(merger.state(source.file).record(source.entry), target.parent_path());
    result.failed += !source.entry.is_done;
    ++result.pictures;
    if (block.size() < kBlock) continue;
    check_interrupted();
    out.write(block);
    block.clear();
  }
  out.write(block);
  out.publish(overwrite);
  std::size_t next = 0;
  for (int64_t shard = 0; shard < merger.header.shard_count; ++shard) {
    if (next < merger.header.shards.size() && merger.header.shards[next] == shard) {
      ++next;
    } else {
      result.missing_shards.push_back(shard);
    }
  }
  return result;
}

}  // namespace easel
