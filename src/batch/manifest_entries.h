// What a manifest's reader keeps of a record.
#pragma once

#include "batch/line_reader.h"
#include "easel/manifest.h"

namespace easel {

struct ManifestEntry {
  int64_t index;
  uint64_t offset;        // of its line in the file
  uint64_t request_hash;  // of the request alone
  uint32_t length;        // of the line, without the LF
  bool is_done;
};

struct ManifestReader::State {
  explicit State(const std::filesystem::path& file);
  ~State();

  std::string line_at(const ManifestEntry& entry) const;
  ManifestRecord record(const ManifestEntry& entry) const;

  std::filesystem::path file, folder;
  int fd;
  ManifestHeader header;
  bool is_torn = false;
  uint64_t whole_bytes = 0;
  std::vector<ManifestEntry> entries;  // by index, one each
};

}  // namespace easel
