#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "batch/manifest_entries.h"
#include "batch/manifest_lines.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostFaults = 20;

int open_manifest(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    throw Error(ErrorKind::kFile, file.string() + ": cannot be opened: " + std::generic_category().message(errno));
  return fd;
}

// Keys sorted, so that equal requests have equal hashes.
uint64_t hash_of(const nlohmann::ordered_json& request) { return std::hash<std::string>()(json(request).dump()); }

// Reads all lines once.
class Scan {
 public:
  Scan(ManifestReader::State& manifest, int fd)
      : manifest_(manifest), lines_(fd, manifest.file.string(), kLongestManifestLine) {}

  void run() {
    std::string line;
    bool is_first = true;
    while (lines_.next(line)) {
      if (!lines_.has_end()) {
        manifest_.is_torn = true;
        break;
      }
      manifest_.whole_bytes = lines_.end_offset();
      std::string fault = lines_.is_too_long() ? "the line is too long" : "";
      if (fault.empty() && is_first) read_header(line, fault);
      if (fault.empty() && !is_first) read_record(line, fault);
      if (!fault.empty()) add_fault(fault);
      if (is_first && !fault.empty()) break;
      is_first = false;
    }
    if (is_first && faults_.empty()) add_fault("it is empty, so it is no manifest");
    if (more_ > 0) faults_.add(manifest_.file.string() + ": and " + std::to_string(more_) + " more damaged lines");
    faults_.raise_if_any(ErrorKind::kFile);
    keep_last();
  }

 private:
  void read_header(std::string_view line, std::string& fault) {
    if (const auto header = read_manifest_header(line, fault)) manifest_.header = *header;
  }

  void read_record(std::string_view line, std::string& fault) {
    const auto record = read_manifest_record(line, manifest_.folder, fault);
    if (!record) return;
    const ManifestHeader& header = manifest_.header;
    const int64_t shard = record->job % header.shard_count;
    if (!std::binary_search(header.shards.begin(), header.shards.end(), shard))
      fault = "job " + std::to_string(record->job) + " belongs to shard " +
              to_string(Shard{shard, header.shard_count}) + ", which this manifest is not of";
    manifest_.entries.push_back({record->index, lines_.offset(), hash_of(record->request),
                                 static_cast<uint32_t>(line.size()), record->is_done()});
  }

  // Of each picture the last record.
  void keep_last() {
    std::vector<ManifestEntry>& entries = manifest_.entries;
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
    std::size_t kept = 0;
    for (const ManifestEntry& entry : entries) {
      const bool again = kept > 0 && entries[kept - 1].index == entry.index;
      if (again && entries[kept - 1].request_hash != entry.request_hash)
        faults_.add(manifest_.file.string() + ": picture " + std::to_string(entry.index) +
                    " is recorded with two different requests");
      entries[again ? kept - 1 : kept++] = entry;
    }
    entries.resize(kept);
    faults_.raise_if_any(ErrorKind::kFile);
  }

  void add_fault(const std::string& fault) {
    if (faults_.list().size() == kMostFaults) {
      ++more_;
    } else {
      faults_.add(manifest_.file.string() + ":" + std::to_string(std::max<int64_t>(lines_.number(), 1)) + ": " + fault);
    }
  }

  ManifestReader::State& manifest_;
  LineReader lines_;
  Faults faults_;
  int64_t more_ = 0;
};

}  // namespace

ManifestReader::State::State(const fs::path& file) : file(file), folder(file.parent_path()), fd(open_manifest(file)) {}
ManifestReader::State::~State() { ::close(fd); }

std::string ManifestReader::State::line_at(const ManifestEntry& entry) const {
  std::string line(entry.length, '\0');
  const ssize_t count = ::pread(fd, line.data(), line.size(), static_cast<off_t>(entry.offset));
  if (count != static_cast<ssize_t>(line.size()))
    throw Error(ErrorKind::kFile, file.string() + ": it changed while it was read");
  return line;
}

ManifestRecord ManifestReader::State::record(const ManifestEntry& entry) const {
  std::string fault;
  auto record = read_manifest_record(line_at(entry), folder, fault);
  if (!record || record->index != entry.index)
    throw Error(ErrorKind::kFile, file.string() + ": it changed while it was read");
  return std::move(*record);
}

ManifestReader::ManifestReader(const fs::path& file) : state_(std::make_unique<State>(file)) {
  Scan(*state_, state_->fd).run();
}
ManifestReader::~ManifestReader() = default;
ManifestReader::ManifestReader(ManifestReader&&) noexcept = default;

const ManifestHeader& ManifestReader::header() const { return state_->header; }
bool ManifestReader::is_torn() const { return state_->is_torn; }
uint64_t ManifestReader::whole_bytes() const { return state_->whole_bytes; }
int64_t ManifestReader::size() const { return static_cast<int64_t>(state_->entries.size()); }

std::vector<int64_t> ManifestReader::indices() const {
  std::vector<int64_t> indices;
  for (const ManifestEntry& entry : state_->entries) indices.push_back(entry.index);
  return indices;
}

std::optional<ManifestRecord> ManifestReader::find(int64_t index) const {
  const auto& entries = state_->entries;
  const auto at = std::lower_bound(entries.begin(), entries.end(), index,
                                   [](const ManifestEntry& entry, int64_t wanted) { return entry.index < wanted; });
  if (at == entries.end() || at->index != index) return std::nullopt;
  return state_->record(*at);
}

namespace {

// "steps is 20 here and 30 in the manifest".
std::string request_differences(const json& ours, const json& recorded) {
  std::vector<std::string> words;
  const auto value = [](const json& object, const std::string& key) {
    return object.contains(key) ? shown(object[key]) : std::string("not given");
  };
  json all = ours;
  all.update(recorded);
  for (const auto& [key, unused] : all.items()) {
    const std::string a = value(ours, key), b = value(recorded, key);
    const bool same = ours.contains(key) && recorded.contains(key) && ours[key] == recorded[key];
    if (!same) words.push_back(key + " is " + a + " here and " + b + " there");
  }
  return listed(words);
}

}  // namespace

PictureState picture_state(const ManifestReader& manifest, int64_t index, const nlohmann::ordered_json& request,
                           Faults& faults) {
  const auto record = manifest.find(index);
  if (!record) return PictureState::kNew;
  const json ours = request, recorded = record->request;
  if (ours != recorded)
    faults.add("picture " + std::to_string(index) +
               " is not the one in the manifest: " + request_differences(ours, recorded));
  if (!record->is_done()) return PictureState::kFailed;
  std::error_code error;
  if (!fs::is_regular_file(record->path, error)) return PictureState::kLost;
  return sha256_of_file(record->path) == record->sha256 ? PictureState::kDone : PictureState::kLost;
}

}  // namespace easel
