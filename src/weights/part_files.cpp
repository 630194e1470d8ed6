// Which files hold a part of a diffusers folder. The names are those of diffusers' and transformers' _add_variant.
#include <algorithm>
#include <mutex>

#include "easel/weights.h"
#include "weights/sharded.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

struct Form {
  std::string file;
  bool sharded, half;
};

// In the order of preference: safetensors first, which cost nothing to open.
std::vector<Form> forms_of(const std::string& stem, bool prefer_half) {
  std::vector<Form> forms;
  for (const bool safetensors : {true, false}) {
    const std::string end = safetensors ? ".safetensors" : ".bin";
    const std::string begin = !safetensors && stem == "model" ? "pytorch_model" : stem;  // transformers' name for it
    for (const bool half : {prefer_half, !prefer_half}) {
      const std::string variant = half ? ".fp16" : "";
      forms.push_back({begin + variant + end, /*sharded=*/false, half});
      forms.push_back({begin + end + ".index" + variant + ".json", /*sharded=*/true, half});
    }
  }
  return forms;
}

bool is_there(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored);
}

std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    names.push_back(entry.path().filename().string());
  if (error) throw Error(ErrorKind::kFile, folder.string() + ": " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

// At most ten.
std::string listed_briefly(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 10;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kShown; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text.empty() ? "nothing" : text;
}

[[noreturn]] void fail_without_weights(const fs::path& folder, const std::vector<Form>& forms) {
  std::vector<std::string> looked_for;
  for (const Form& form : forms) looked_for.push_back(form.file);
  const std::vector<std::string> there = files_in(folder);
  throw Error(
      ErrorKind::kFile,
      folder.string() + ": no weights: looked for " + easel::listed(looked_for) + "; there is " + listed_briefly(there),
      "get this part of the model again");
}

// A run opens a part more than once; what is said of it is said once.
void note_once(const std::string& line) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(line).second) log::note(line);
}

}  // namespace

SourcePtr open_part(const fs::path& folder, const std::string& stem, bool prefer_half) {
  const std::vector<Form> forms = forms_of(stem, prefer_half);
  const auto form = std::find_if(forms.begin(), forms.end(), [&](const Form& f) { return is_there(folder / f.file); });
  if (form == forms.end()) fail_without_weights(folder, forms);
  const fs::path file = folder / form->file;
  if (form->half && !prefer_half) note_once(file.string() + ": used, for there is no full-precision variant");
  return form->sharded ? open_sharded(file) : open_weights_file(file);
}

}  // namespace easel
