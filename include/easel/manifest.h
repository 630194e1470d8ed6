// batch: the manifest of a run, a line of JSON a picture, written as the pictures land; what --resume goes on from and
// what shards are merged by.
#pragma once

#include "easel/jobs.h"

namespace easel {

// ---- hashes -------------------------------------------------------------------------------------------------------

// SHA-256 as 64 hex digits. The file's throws Error(kFile) for what cannot be read.
std::string sha256_of(std::string_view bytes);
std::string sha256_of_file(const std::filesystem::path& file);

// ---- records ------------------------------------------------------------------------------------------------------

// The first line: what a run must have in common with the one it resumes or is merged with.
struct ManifestHeader {
  uint64_t base_seed = 0;
  int64_t batch_size = 1;  // what `auto` found, so that a resumed run packs alike
  int64_t shard_count = 1;
  std::vector<int64_t> shards = {0};  // whose pictures are in it, rising; of a merged manifest several
  std::string command;                // sha256_of() whatever else decides the pictures: flags, sweeps, the model's hash

  bool operator==(const ManifestHeader&) const = default;
};

struct ManifestRecord {
  int64_t index = 0;               // of the picture
  int64_t job = 0;                 // job % shard_count is one of the header's shards
  json id = {};                    // of the job; null: none
  nlohmann::ordered_json request;  // to_json()
  std::string error = {};          // empty: done
  // Of done pictures. In the file relative to the manifest's folder, so that both may be moved together.
  std::filesystem::path path = {};
  std::string sha256 = {};
  nlohmann::ordered_json seconds = nlohmann::ordered_json::object();  // {"sample": 1.25, …}

  bool is_done() const { return error.empty(); }
};

// ---- reading ------------------------------------------------------------------------------------------------------

// Holds about 40 bytes a picture; records are read when asked for. Of several records of a picture the last counts.
class ManifestReader {
 public:
  // Throws Error(kFile) with every damaged line by file:line (the first 20). A last line without its end, as kill −9
  // leaves it, is not there; everything else that is no record is damage: unknown or missing keys, another version,
  // pictures of other shards, two records of a picture with different requests.
  explicit ManifestReader(const std::filesystem::path& file);
  ~ManifestReader();
  ManifestReader(ManifestReader&&) noexcept;

  const ManifestHeader& header() const;
  bool is_torn() const;                  // there was a last line without its end
  uint64_t whole_bytes() const;          // without it
  int64_t size() const;                  // pictures
  std::vector<int64_t> indices() const;  // of them, rising
  std::optional<ManifestRecord> find(int64_t index) const;

  struct State;

 private:
  std::unique_ptr<State> state_;
  friend struct ManifestMerger;
};

enum class PictureState {
  kNew,     // no record
  kFailed,  // recorded as failed
  kLost,    // the file is gone or holds other bytes
  kDone,    // the file's hash is the recorded one
};
// Adds a fault when the recorded request is not `request`, naming the fields that differ.
PictureState picture_state(const ManifestReader& manifest, int64_t index, const nlohmann::ordered_json& request,
                           Faults& faults);

// ---- writing ------------------------------------------------------------------------------------------------------

// What a resumed run says of itself; unset: whatever the manifest says.
struct RunIdentity {
  std::optional<uint64_t> base_seed = {};
  std::optional<int64_t> batch_size = {};
  Shard shard = {};
  std::string command = {};
};

// Appends. Records are one write each to a file that no other process writes to (flock), so kill −9 leaves whole lines
// and at most one torn one at the end. A record is not waited for on the disk: every 5 seconds and at the end the file
// is (fdatasync). Write it after its picture, which write_file_atomically() waits for: then a power cut can lose
// records, whose pictures are drawn again, but never leaves a record without its picture.
class ManifestWriter {
 public:
  // A new manifest, which appears with its header or not at all. Throws Error(kUsage) where there is one,
  // Error(kFile) for what cannot be written.
  static ManifestWriter create(const std::filesystem::path& file, const ManifestHeader& header);
  // Goes on with one: locks it, cuts a torn last line. Throws Error(kUsage) with every field of the header that is not
  // the run's, Error(kFile) as ManifestReader does and while another process writes to it.
  static ManifestWriter resume(const std::filesystem::path& file, const RunIdentity& run);
  ~ManifestWriter();
  ManifestWriter(ManifestWriter&&) noexcept;

  const ManifestHeader& header() const;
  // Throws Error(kFile) (disk full), after which the file ends with the record before.
  void add(const ManifestRecord& record);
  void sync();

 private:
  struct State;
  explicit ManifestWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// ---- merging ------------------------------------------------------------------------------------------------------

struct MergeResult {
  int64_t pictures = 0, failed = 0;
  std::vector<int64_t> missing_shards;  // of shard_count; empty: the run is whole
};

// The shards of one run as one manifest in the order of the pictures, which appears whole or not at all. A picture that
// one manifest has done and another failed is done. Throws Error(kUsage) with every fault: headers that differ in more
// than their shards and batch sizes, pictures with other requests or other bytes in two manifests; Error(kFile) as
// ManifestReader does and for what cannot be written.
MergeResult merge_manifests(const std::vector<std::filesystem::path>& files, const std::filesystem::path& target,
                            bool overwrite);

}  // namespace easel
