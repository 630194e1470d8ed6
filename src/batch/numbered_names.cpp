#include "batch/numbered_names.h"

#include <algorithm>
#include <charconv>

#include "easel/core.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

bool is_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// The index of "00012-7.png", or −1.
int64_t index_of(std::string_view name) {
  constexpr std::string_view kEnding = ".png";
  constexpr std::size_t kMostDigits = 18;
  const std::size_t dash = name.find('-');
  if (dash == std::string_view::npos || dash > kMostDigits || !name.ends_with(kEnding)) return -1;
  if (!is_digits(name.substr(0, dash)) || !is_digits(name.substr(dash + 1, name.size() - kEnding.size() - dash - 1)))
    return -1;
  int64_t index = -1;
  std::from_chars(name.data(), name.data() + dash, index);
  return index;
}

}  // namespace

int64_t next_free_index(const fs::path& folder) {
  std::error_code error;
  int64_t largest = -1;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error))
    largest = std::max(largest, index_of(entry->path().filename().string()));
  if (error) throw Error(ErrorKind::kFile, "folder " + folder.string() + " cannot be read: " + error.message());
  return largest + 1;
}

}  // namespace easel
