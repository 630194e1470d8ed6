// Lines of a manifest ↔ headers and records.
#pragma once

#include "easel/manifest.h"

namespace easel {

// A prompt of 1 MiB, escaped, and what else a request holds.
inline constexpr std::size_t kLongestManifestLine = 16 << 20;

// With the LF.
std::string line_of(const ManifestHeader& header);
// Paths are written relative to `folder`, the manifest's.
std::string line_of(const ManifestRecord& record, const std::filesystem::path& folder);

// nullopt with what is wrong with the line in `fault`.
std::optional<ManifestHeader> read_manifest_header(std::string_view line, std::string& fault);
std::optional<ManifestRecord> read_manifest_record(std::string_view line, const std::filesystem::path& folder,
                                                   std::string& fault);

// The fields of two headers that differ, as sentences: "base_seed is 7 in a.jsonl and 8 in b.jsonl". Shards are not
// looked at.
std::vector<std::string> header_differences(const ManifestHeader& a, const std::string& name_a, const ManifestHeader& b,
                                            const std::string& name_b);

}  // namespace easel
