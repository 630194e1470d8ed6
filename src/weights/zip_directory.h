#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace easel {

struct ZipEntry {
  std::string_view name;
  std::string_view data;  // as the file has it
  uint16_t method = 0;    // of compression; 0: none
};

// The entries of a zip file in the directory's order; with zip64 records or without. Nothing is inflated. Encrypted
// entries are refused, and whatever two readers could see differently: bytes behind the directory or a comment, names
// given twice, names that are no plain relative path, a local header that says otherwise than the directory, entries
// that overlap or reach beyond the directory. Checksums are not compared: torch can be told to write none. Throws
// Error(kFile) with `where` and the entry.
std::vector<ZipEntry> read_zip(std::string_view bytes, const std::string& where);

}  // namespace easel
