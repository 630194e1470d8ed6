#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <set>

#include "batch/numbered_names.h"
#include "easel/batch.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kLongestName = 255;  // NAME_MAX of Linux's file systems, in bytes
constexpr std::size_t kFaultsShown = 10;

// Endings that promise another format than the one that is written.
bool names_another_format(const fs::path& file) {
  constexpr std::array kOthers = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jxl", ".ppm"};
  std::string ending = file.extension().string();
  for (char& c : ending) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return std::find(kOthers.begin(), kOthers.end(), ending) != kOthers.end();
}

// What is wrong with the options by themselves; empty when nothing is.
std::string fault_of_output(const OutputOptions& options) {
  if (!options.output)
    return options.overwrite && !options.resumable ? "--overwrite has no effect without -o: a free name is chosen then"
                                                   : "";
  const fs::path name = *options.output;
  if (name.empty()) return "-o: the name is empty";
  if (!name.has_filename()) return "-o " + name.string() + " names a folder: --outdir is the option for that";
  if (names_another_format(name)) return "-o " + name.string() + ": pictures are written as PNG; name it .png";
  return "";
}

std::string fault_of_outdir(const OutputOptions& options) {
  if (!options.outdir) return "";
  if (options.outdir->empty()) return "--outdir: the name is empty";
  if (options.output && fs::path(*options.output).is_absolute())
    return "--outdir has no effect: -o " + *options.output + " is an absolute path";
  return "";
}

// What stands in the way of a picture at `path`; empty when nothing does.
std::string obstacle(const fs::path& path, bool overwrite) {
  const auto too_long =
      std::find_if(path.begin(), path.end(), [](const fs::path& part) { return part.native().size() > kLongestName; });
  if (too_long != path.end())
    return "-o: a name of " + std::to_string(too_long->native().size()) + " bytes is too long, at most " +
           std::to_string(kLongestName) + ": " + too_long->string() + " ({prompt:20} takes 20 characters)";
  std::error_code error;
  const fs::file_status there = fs::status(path, error);
  if (fs::is_directory(there)) return path.string() + " is a folder: --outdir is the option for that";
  if (fs::exists(there) && !fs::is_regular_file(there))
    return path.string() + " is a device or a pipe: -o - writes to standard output";
  if (!overwrite && fs::exists(fs::symlink_status(path, error)))
    return path.string() + " exists: --overwrite replaces it";
  return "";
}

void check_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error))
    throw Error(ErrorKind::kFile, "there is no folder " + folder.string(),
                "make it first: mkdir -p " + folder.string());
  if (!fs::is_directory(folder, error)) throw Error(ErrorKind::kFile, folder.string() + " is not a folder");
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    throw Error(ErrorKind::kFile, "folder " + folder.string() + " cannot be written to: " + std::strerror(errno));
}

// What kill -9 left of write_file_atomically(), in an hour that no file takes.
void remove_left_overs(const fs::path& folder) {
  const auto then = fs::file_time_type::clock::now() - std::chrono::hours(1);
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code gone;
    if (name.starts_with(".easel-") && name.ends_with(".tmp") && entry->last_write_time(gone) < then && !gone)
      fs::remove(entry->path(), gone);
  }
}

fs::path folder_of(const fs::path& file) { return file.has_parent_path() ? file.parent_path() : fs::path("."); }

}  // namespace

Outputs::Outputs(OutputOptions options, int64_t pictures, Faults& faults)
    : options_(std::move(options)),
      pictures_(pictures),
      template_(options_.output.value_or(kNumberedName), "-o", faults_) {
  for (const std::string& fault : {fault_of_output(options_), fault_of_outdir(options_)}) {
    if (!fault.empty()) faults_.add(fault);
  }
  if (pictures_ > 1 && !template_.has("index") && !template_.has("seed"))
    faults_.add("-o " + *options_.output + ": " + std::to_string(pictures_) +
                " pictures need {index} or {seed} in the name");
  for (const std::string& fault : faults_.list()) faults.add(fault);
}

bool Outputs::needs_checkpoint() const { return template_.has("sampler") || template_.has("model"); }

fs::path Outputs::path_of(const NameFacts& facts) const {
  if (facts.output.empty()) return fs::path(options_.outdir.value_or("")) / template_(facts);
  Faults checked_before;
  return fs::path(options_.outdir.value_or("")) / NameTemplate(facts.output, "output", checked_before)(facts);
}

// Whether no other picture of the run can have the name.
bool Outputs::tells_apart(const NameFacts& facts) const {
  if (facts.output.empty()) return template_.has("index");
  Faults checked_before;
  return NameTemplate(facts.output, "output", checked_before).has("index");
}

void Outputs::check_targets(const std::vector<NameFacts>& pictures, Faults& faults) const {
  if (!faults_.empty()) return;
  TargetCheck check(*this);
  for (const NameFacts& facts : pictures) check.add(facts);
  check.add_to(faults);
}

std::string Outputs::obstacle_of(const NameFacts& facts) const {
  return options_.output || !facts.output.empty() ? obstacle(path_of(facts), options_.overwrite || options_.resumable)
                                                  : "";
}

void Outputs::prepare(const std::vector<NameFacts>& pictures) {
  if (options_.outdir) {
    std::error_code error;
    fs::create_directories(*options_.outdir, error);
    if (error) throw Error(ErrorKind::kFile, "--outdir " + *options_.outdir + ": " + error.message());
  }
  std::set<fs::path> folders;
  if (!options_.output) folders.insert(folder_of(path_of({})));
  for (const NameFacts& facts : pictures) {
    if (options_.output) folders.insert(folder_of(path_of(facts)));
  }
  for (const fs::path& folder : folders) {
    check_folder(folder);
    if (options_.resumable) remove_left_overs(folder);
  }
  if (!options_.output && !options_.resumable) first_index_ = next_free_index(*folders.begin());
}

namespace {

bool holds(const fs::path& file, std::string_view bytes) {
  std::ifstream in(file, std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return in.good() && content == bytes;
}

}  // namespace

fs::path Outputs::write(const NameFacts& facts, std::string_view bytes, bool replace) {
  return options_.output || options_.resumable || !facts.output.empty() ? write_named(facts, bytes, replace)
                                                                        : write_numbered(facts, bytes);
}

namespace {

bool is_taken(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

}  // namespace

fs::path Outputs::write_named(const NameFacts& facts, std::string_view bytes, bool replace) {
  const fs::path path = path_of(facts);
  if (options_.overwrite && !tells_apart(facts) && !overwritten_.insert(std::hash<std::string>()(path.string())).second)
    throw Error(ErrorKind::kUsage, path.string() + " is another picture of this run already",
                "{index} in the name tells them apart");
  std::error_code error;
  if (!facts.output.empty()) fs::create_directories(folder_of(path), error);  // what is wrong shows in writing
  if (options_.resumable && !options_.overwrite && holds(path, bytes)) return path;
  try {
    write_file_atomically(path, bytes, options_.overwrite || replace);
  } catch (const Error&) {
    if (options_.overwrite || replace || !is_taken(path)) throw;
    throw Error(ErrorKind::kUsage, path.string() + " exists" + (options_.resumable ? " and is another picture" : ""),
                "--overwrite replaces it");
  }
  return path;
}

fs::path Outputs::write_numbered(const NameFacts& facts, std::string_view bytes) {
  for (NameFacts numbered = facts;;) {
    numbered.index = first_index_ + facts.index;
    const fs::path path = path_of(numbered);
    try {
      write_file_atomically(path, bytes, /*overwrite=*/false);
      return path;
    } catch (const Error&) {  // another process may have taken the name meanwhile: behind all of its names
      if (!is_taken(path)) throw;
      first_index_ = std::max(first_index_ + 1, next_free_index(folder_of(path)) - facts.index);
    }
  }
}

// ---- many pictures ------------------------------------------------------------------------------------------------

void TargetCheck::fault(const std::string& text) {
  if (++found_ <= kFaultsShown) shown_.push_back(text);
}

void TargetCheck::add(const NameFacts& facts) {
  constexpr std::size_t kMostFolders = 1000;
  if (!outputs_.options_.output && facts.output.empty()) return;
  const fs::path path = outputs_.path_of(facts);
  if (facts.output.empty() && folders_.size() < kMostFolders && folders_.insert(folder_of(path)).second)
    one_a_folder_.push_back(facts);
  if (!outputs_.tells_apart(facts)) {
    const auto [entry, is_new] = names_.emplace(std::hash<std::string>()(path.string()), facts.index);
    if (!is_new)
      return fault("-o: pictures " + std::to_string(entry->second) + " and " + std::to_string(facts.index) +
                   " would both be " + path.string() + ": put {index} in the name");
  }
  if (const std::string text = outputs_.obstacle_of(facts); !text.empty()) fault(text);
}

void TargetCheck::add_to(Faults& faults) const {
  for (const std::string& text : shown_) faults.add(text);
  if (found_ > kFaultsShown) faults.add("and " + std::to_string(found_ - kFaultsShown) + " more such names");
}

}  // namespace easel
