#include <glob.h>

#include <algorithm>
#include <array>

#include "easel/batch.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

bool has_picture_ending(const fs::path& file) {
  constexpr std::array kEndings = {".png", ".jpg", ".jpeg", ".bmp", ".tga"};
  std::string ending = file.extension().string();
  for (char& c : ending) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return std::find(kEndings.begin(), kEndings.end(), ending) != kEndings.end();
}

std::vector<std::string> pictures_in(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code unknown;
    if (fs::is_regular_file(entry->path(), unknown) && has_picture_ending(entry->path()))
      files.push_back(entry->path().string());
  }
  if (error) throw Error(ErrorKind::kFile, folder.string() + ": " + error.message());
  std::sort(files.begin(), files.end());
  return files;
}

// In the order of their names.
std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found = {};
  ::glob(pattern.c_str(), 0, nullptr, &found);
  std::vector<std::string> files(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return files;
}

}  // namespace

std::vector<std::string> picture_files(const std::string& given, const std::string& spelled, Faults& faults) {
  std::error_code error;
  if (fs::is_directory(given, error)) {
    std::vector<std::string> files = pictures_in(given);
    if (files.empty()) faults.add(spelled + ": there is no picture (PNG, JPEG, BMP, TGA) in the folder " + given);
    return files;
  }
  if (given.find_first_of("*?[") == std::string::npos || fs::exists(given, error)) return {given};
  std::vector<std::string> files = matches_of(given);
  if (files.empty()) faults.add(spelled + ": no file matches " + given);
  return files;
}

}  // namespace easel
