// easel convert: a model in another form or another dtype.
#include <map>

#include "cli/arguments.h"
#include "cli/model_writing.h"
#include "cli/results.h"
#include "easel/runtime.h"

namespace easel::cli {

namespace {

namespace fs = std::filesystem;

struct Conversion {
  fs::path source, target;
  Dtype dtype;
  std::string to;          // diffusers, ldm; empty: as the target's name says
  std::string prediction;  // eps, v; empty: as the source says

  bool to_single_file() const { return to.empty() ? target.extension() == ".safetensors" : to == "ldm"; }
};

// One of the words, or a fault; empty where the option was not given.
std::string word_of(const CLI::Option& option, const std::vector<std::string>& words, Faults& faults) {
  const std::optional<std::string> value = value_of(option, faults);
  if (!value || std::find(words.begin(), words.end(), *value) != words.end()) return value.value_or("");
  faults.add(spelling_of(option) + " '" + *value + "': expected " + listed(words));
  return "";
}

Dtype dtype_of(const std::string& word) {
  static const std::map<std::string, at::ScalarType> kTypes = {
      {"f16", at::kHalf}, {"bf16", at::kBFloat16}, {"f32", at::kFloat}};
  return word.empty() ? std::nullopt : Dtype(kTypes.at(word));
}

void check_target(const fs::path& target, Faults& faults) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(target, error)))
    faults.add(target.string() + " exists: choose another name, or remove it first");
}

std::optional<Conversion> read_arguments(const Arguments& arguments) {
  CLI::App app(
      "Writes a model in another form or dtype. DST ending in .safetensors: one file with the names of the "
      "original releases; else a diffusers folder. What is not converted is written bit for bit.",
      "easel convert SRC DST");
  CLI::Option* paths = add_text(app, "--path", "PATH", "", "");  // hidden: what bare arguments stand for
  const CLI::Option* dtype = add_text(app, "--dtype", "TYPE", "f16, bf16 or f32 (as stored)", "Options");
  const CLI::Option* to = add_text(app, "--to", "FORM", "diffusers or ldm (by the name of DST)", "Options");
  const CLI::Option* prediction =
      add_text(app, "--prediction", "TYPE", "eps or v, for files that do not say (Stable Diffusion 2.x)", "Options");
  Faults faults;
  if (!parse(app, arguments, "--path", faults)) return std::nullopt;
  Conversion asked;
  asked.dtype = dtype_of(word_of(*dtype, {"f16", "bf16", "f32"}, faults));
  asked.to = word_of(*to, {"diffusers", "ldm"}, faults);
  asked.prediction = word_of(*prediction, {"eps", "v"}, faults);
  if (const auto given = paths->results(); given.size() != 2) {
    faults.add("expected a source and a target, got " + std::to_string(given.size()) + " paths");
  } else {
    asked.source = given[0];
    asked.target = (fs::path(given[1]) / "").parent_path();  // without a trailing slash
    check_target(asked.target, faults);
  }
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel convert --help'");
  return asked;
}

// LoRA files, embeddings and lone parts keep their names.
void convert_other(const ModelFiles& model, const Conversion& asked) {
  Faults faults;
  const std::string what = model.path.string() + " is no whole model (" + model.identity.title + ")";
  if (!asked.to.empty()) faults.add("--to has no effect: " + what);
  if (asked.target.extension() != ".safetensors")
    faults.add(asked.target.string() + ": expected a name ending in .safetensors: " + what);
  faults.raise_if_any(ErrorKind::kUsage);
  write_same_names(model, asked.target, asked.dtype);
}

void check_prediction(const ModelFiles& model, const Conversion& asked) {
  const FileIdentity& id = model.identity;
  if (!asked.prediction.empty() && (model.is_folder() || id.prediction.empty() || asked.to_single_file()))
    throw Error(ErrorKind::kUsage, "--prediction has no effect: it chooses the configs of a single file's folder");
  if (id.prediction_assumed && !asked.to_single_file())
    log::note(model.path.string() + ": prediction type " + id.prediction + ", " + id.prediction_reason +
              "; --prediction decides");
}

void convert_model(const ModelFiles& model, const Conversion& asked) {
  check_prediction(model, asked);
  if (model.identity.kind != FileKind::kCheckpoint) return convert_other(model, asked);
  if (asked.to_single_file()) {
    model.is_folder() ? write_single_file(model, asked.target, asked.dtype)
                      : write_same_names(model, asked.target, asked.dtype);
  } else if (asked.target.extension() == ".safetensors") {
    throw Error(ErrorKind::kUsage, asked.target.string() + ": --to diffusers makes a folder: choose another name");
  } else {
    model.is_folder() ? copy_folder(model, asked.target, asked.dtype) : write_folder(model, asked.target, asked.dtype);
  }
}

}  // namespace

int convert(const Arguments& arguments) {
  const std::optional<Conversion> asked = read_arguments(arguments);
  if (!asked) return 0;
  convert_model(open_model_files(find_model(asked->source), asked->prediction), *asked);
  print_line(asked->target.string());
  return 0;
}

}  // namespace easel::cli
