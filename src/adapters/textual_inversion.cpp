#include "easel/textual_inversion.h"

#include <algorithm>

namespace easel {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kMostVectors = 75;  // of a chunk
constexpr const char* kFirst = "clip_l";
constexpr const char* kSecond = "clip_g";

// Tensors of a file by what they are for: `clip_l`, `clip_g`, or "" for the only one there is.
std::map<std::string, std::string> tensors_of(const WeightSource& file) {
  std::vector<std::string> names = file.names();
  std::map<std::string, std::string> found;
  for (const std::string& name : names) {
    if (name == kFirst || name == kSecond) found[name] = name;
  }
  if (!found.empty()) return found;
  // Beside its parameters AUTOMATIC1111's files hold other tensors, training state for example.
  const auto is_param = [](const std::string& n) { return n == "emb_params" || n.starts_with("string_to_param"); };
  std::vector<std::string> params;
  std::copy_if(names.begin(), names.end(), std::back_inserter(params), is_param);
  if (params.empty() && names.size() == 1) params = names;
  if (params.size() == 1) found[""] = params.front();
  return found;
}

// [n, width] float32.
Tensor vectors(const WeightSource& file, const std::string& name, int64_t width) {
  const std::string where = file.describe() + ": tensor " + name + ": ";
  const Shape shape = file.info(name)->shape;
  const bool is_one = shape.size() == 1;
  if ((!is_one && shape.size() != 2) || shape.back() != width)
    throw Error(ErrorKind::kFile, where + "shape " + to_string(shape) + ", expected [n, " + std::to_string(width) +
                                      "], as wide as the text encoder");
  const int64_t count = is_one ? 1 : shape.front();
  if (count < 1 || count > kMostVectors)
    throw Error(ErrorKind::kFile,
                where + std::to_string(count) + " vectors, expected 1 to " + std::to_string(kMostVectors));
  const Tensor values = file.load(name).to(at::kFloat).view({count, width}).clone();
  if (!values.isfinite().all().item<bool>())
    throw Error(ErrorKind::kFile, where + "values that are not finite", "the file is damaged: get it again");
  return values;
}

const char* family_of_width(int64_t width) {
  return width == 768 ? " (Stable Diffusion 1.x)" : width == 1024 ? " (Stable Diffusion 2.x)" : "";
}

void check_pair(const WeightSource& file, const TextualInversion& inversion) {
  if (inversion.first.defined() && inversion.second.defined() && inversion.first.size(0) != inversion.second.size(0))
    throw Error(ErrorKind::kFile, file.describe() + ": " + std::to_string(inversion.first.size(0)) +
                                      " vectors for the first text encoder, " +
                                      std::to_string(inversion.second.size(0)) + " for the second");
}

}  // namespace

TextualInversion read_textual_inversion(const fs::path& path, const EncoderWidths& widths) {
  const SourcePtr file = open_weights_file(path);
  const std::map<std::string, std::string> tensors = tensors_of(*file);
  const std::string where = path.string() + ": ";
  if (tensors.empty())
    throw Error(ErrorKind::kFile, where +
                                      "this is no textual inversion: no emb_params, string_to_param, clip_l and "
                                      "clip_g, nor a single tensor");
  TextualInversion inversion;
  if (const auto only = tensors.find(""); only != tensors.end()) {
    if (widths.first > 0 && widths.second > 0)
      throw Error(ErrorKind::kFile, where + "vectors for one text encoder" +
                                        family_of_width(file->info(only->second)->shape.back()) +
                                        ", but this model has two (Stable Diffusion XL): expected clip_l and clip_g");
    (widths.first > 0 ? inversion.first : inversion.second) =
        vectors(*file, only->second, std::max(widths.first, widths.second));
    return inversion;
  }
  if (widths.second == 0)
    throw Error(
        ErrorKind::kFile,
        where + "a textual inversion for Stable Diffusion XL (clip_l, clip_g), but this model has one text encoder");
  for (const auto& [name, width, into] :
       {std::tuple{kFirst, widths.first, &inversion.first}, {kSecond, widths.second, &inversion.second}}) {
    if (width == 0) continue;
    if (!tensors.contains(name)) throw Error(ErrorKind::kFile, where + "no tensor " + name);
    *into = vectors(*file, name, width);
  }
  check_pair(*file, inversion);
  return inversion;
}

std::map<std::string, fs::path> textual_inversions_in(const fs::path& folder) {
  static const std::set<std::string> kExtensions = {".pt", ".bin", ".safetensors"};
  std::error_code error;
  std::map<std::string, fs::path> found;
  Faults faults;
  constexpr auto kOptions = fs::directory_options::follow_directory_symlink;
  fs::recursive_directory_iterator entries(folder, kOptions, error);
  if (error) throw Error(ErrorKind::kFile, folder.string() + ": cannot be read as a folder: " + error.message());
  std::vector<fs::path> files;
  for (; entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    if (error) throw Error(ErrorKind::kFile, folder.string() + ": cannot be read: " + error.message());
    if (entries->is_regular_file(error) && kExtensions.contains(entries->path().extension().string()))
      files.push_back(entries->path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    const auto [entry, is_new] = found.emplace(file.stem().string(), file);
    if (!is_new) faults.add(file.string() + ": the same word as " + entry->second.string());
  }
  faults.raise_if_any(ErrorKind::kFile, "rename one of them");
  return found;
}

}  // namespace easel
