#include "cli/model_writing.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <system_error>

#include "cli/temporary_folder.h"
#include "easel/image.h"

namespace easel::cli {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kClipVocabulary = 49408;

// ---- what is not whole
// -----------------------------------------------------------------------------------------------

void add_some(Faults& faults, const std::string& begin, const std::vector<std::string>& lines) {
  constexpr std::size_t kShown = 20;
  for (std::size_t i = 0; i < lines.size() && i < kShown; ++i) faults.add(begin + lines[i]);
  if (lines.size() > kShown) faults.add(begin + "and " + std::to_string(lines.size() - kShown) + " more");
}

void check_vocabulary(const ModelFiles& model, const ModelPart& part, Faults& faults) {
  if (!part.name.starts_with("text_encoder")) return;
  const json size = part.config.value("vocab_size", json(kClipVocabulary));
  if (size != kClipVocabulary)
    faults.add(model.path.string() + ": " + part.name + "'s vocab_size is " + size.dump() + ", CLIP's is " +
               std::to_string(kClipVocabulary) + ": a single file has no place for a tokenizer of its own");
}

// A converted model that lacks a tensor would only be found out later.
void check_whole(const ModelFiles& model) {
  const std::string where = model.path.string() + ": ";
  Faults faults;
  for (const FilePart& wanted : single_file_parts(model.identity.family)) {
    const ModelPart* part = model.part(wanted.name);
    if (!part) {
      faults.add(where + "there is no " + wanted.name);
      continue;
    }
    const PartCheck check = check_part(*part);
    if (!check.unsupported.empty()) faults.add(where + part->name + ": " + check.unsupported);
    add_some(faults, where + part->name + ": ", check.missing);
    add_some(faults, where + part->name + ": ", check.misfit);
    add_some(faults, where + part->name + ": unexpected tensor ", check.unexpected);
    if (check.unsupported.empty()) check_vocabulary(model, *part, faults);
  }
  add_some(faults, where + "unexpected tensor ", leftovers(model).unexpected);
  faults.raise_if_any(ErrorKind::kFile, "only a whole model can change its form");
}

void check_family(const ModelFiles& model) {
  if (!model.identity.family.empty()) return;
  throw Error(ErrorKind::kFile, model.path.string() + ": " + model.identity.title + ", which has no other form");
}

// ---- a single file
// ---------------------------------------------------------------------------------------------------

// Empty tensors, as ComfyUI reads them.
std::vector<std::pair<std::string, Tensor>> markers_of(const FileIdentity& id) {
  std::vector<std::pair<std::string, Tensor>> markers;
  if (id.prediction == "v") markers.emplace_back("v_pred", at::empty({0}));
  if (id.zero_snr) markers.emplace_back("ztsnr", at::empty({0}));
  return markers;
}

// The ModelSpec standard's words (https://github.com/Stability-AI/ModelSpec), and the configs.
Metadata metadata_of(const ModelFiles& model) {
  static const std::map<std::string, std::string> kArchitectures = {{"sd1", "stable-diffusion-v1"},
                                                                    {"sdxl", "stable-diffusion-xl-v1-base"},
                                                                    {"sdxl-refiner", "stable-diffusion-xl-v1-refiner"}};
  const FileIdentity& id = model.identity;
  Metadata metadata = {{kConfigsKey, json(model.configs).dump()}};
  metadata["modelspec.sai_model_spec"] = "1.0.0";
  const bool v = id.prediction == "v";
  metadata["modelspec.architecture"] =
      id.family == "sd2" ? (v ? "stable-diffusion-v2-768-v" : "stable-diffusion-v2-512") : kArchitectures.at(id.family);
  metadata["modelspec.prediction_type"] = v ? "v" : "epsilon";
  return metadata;
}

// ---- a folder
// --------------------------------------------------------------------------------------------------------

void write_json(const fs::path& file, const json& content) {
  write_file_atomically(file, content.dump(2) + "\n", /*overwrite=*/false);
}

fs::path make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(ErrorKind::kFile, folder.string() + ": cannot be made: " + error.message());
  return folder;
}

// fs::copy_file reports a full disk as an input/output error.
void copy_one(const fs::path& from, const fs::path& to) {
  const auto fail = [](const fs::path& file, const char* what) {
    throw Error(ErrorKind::kFile, file.string() + what + std::generic_category().message(errno));
  };
  std::ifstream in(from, std::ios::binary);
  if (!in) fail(from, ": cannot be read: ");
  const int fd = ::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) fail(to, ": cannot be written: ");
  const std::unique_ptr<const int, void (*)(const int*)> closed(&fd, [](const int* open) { ::close(*open); });
  std::vector<char> block(1 << 20);
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())), in.gcount() > 0) {
    check_interrupted();
    write_to_descriptor(fd, {block.data(), static_cast<std::size_t>(in.gcount())}, to.string());
  }
  if (in.bad()) fail(from, ": cannot be read: ");
}

std::string weights_name(const ModelPart& part) {
  return part.name.starts_with("text_encoder") ? "model.safetensors" : "diffusion_pytorch_model.safetensors";
}

// What no network of a folder reads stays behind; position_ids go with CLIP's own names.
bool has_place_in_folder(const ModelPart& part, const std::string& name) {
  if (!is_known_extra(name)) return true;
  if (name == "text_projection.weight") return part.name == "text_encoder_2";
  return name.ends_with(".position_ids");
}

void write_part(const ModelPart& part, const fs::path& folder, Dtype dtype) {
  const SourcePtr kept =
      filtered(part.tensors, [&](const std::string& name) { return has_place_in_folder(part, name); });
  write_safetensors(folder / weights_name(part), *kept, dtype);
}

// Every single file has CLIP's vocabulary; what it is padded with is in the config.
void write_tokenizer(const json& config, const fs::path& folder) {
  const fs::path vocabulary = models_folder() / kBundledModel / "tokenizer";
  for (const char* name : {"vocab.json", "merges.txt"}) copy_one(vocabulary / name, folder / name);
  write_json(folder / "tokenizer_config.json", config);
}

void write_configs(const ModelFiles& model, const fs::path& folder) {
  for (const auto& [name, config] : model.configs) {
    if (name == "model_index" || name == "easel") {
      write_json(folder / (name + ".json"), config);
    } else if (name.starts_with("tokenizer")) {
      write_tokenizer(config, make_folder(folder / name));
    } else if (name == "scheduler") {
      write_json(make_folder(folder / name) / "scheduler_config.json", config);
    } else if (model.part(name)) {
      write_json(make_folder(folder / name) / "config.json", config);
    }
  }
}

// Markers of the prediction type are in the scheduler's config.
void note_what_is_left_out(const ModelFiles& model) {
  std::vector<std::string> left;
  for (const std::string& name : leftovers(model).known) {
    if (!name.ends_with(".position_ids") && name != "v_pred" && name != "ztsnr") left.push_back(name);
  }
  if (left.empty()) return;
  log::note(model.path.string() + ": left out, for no network reads them: " + left.front() +
            (left.size() > 1 ? " and " + std::to_string(left.size() - 1) + " more tensors" : ""));
}

// ---- another folder
// --------------------------------------------------------------------------------------------------

bool is_weights_file(const std::string& name) {
  static constexpr std::array kEnds = {".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5"};
  const auto ends = [&](const std::string& end) { return name.ends_with(end); };
  const bool index = name.find(".index.") != std::string::npos && name.ends_with(".json");
  return index || std::any_of(kEnds.begin(), kEnds.end(), ends);
}

// Companions (safety_checker, …) and all that is text; not the root's and the parts' own weights, nor hidden files.
void copy_companions(const ModelFiles& model, const fs::path& from, const fs::path& to, bool root) {
  const bool skip_weights = root || model.part(from.filename());
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(".")) continue;
    if (entry.is_directory()) {
      copy_companions(model, entry.path(), make_folder(to / name), /*root=*/false);
    } else if (!skip_weights || !is_weights_file(name)) {
      copy_one(entry.path(), to / name);
    }
  }
}

}  // namespace

void write_same_names(const ModelFiles& model, const fs::path& target, Dtype dtype) {
  const SourcePtr tensors = model.is_folder() ? model.parts.at(0).tensors : model.file;
  Metadata metadata = tensors->metadata();
  metadata.erase("format");
  write_safetensors(target, *tensors, dtype, metadata);
}

void write_single_file(const ModelFiles& model, const fs::path& target, Dtype dtype) {
  check_family(model);
  check_whole(model);
  std::vector<SourcePtr> sources;
  for (const FilePart& form : single_file_parts(model.identity.family)) {
    const ModelPart& part = *model.part(form.name);
    sources.push_back(as_single_file(part.tensors, form, part.config));
  }
  sources.push_back(tensor_source(markers_of(model.identity), "markers"));
  write_safetensors(target, *joined(std::move(sources)), dtype, metadata_of(model));
}

void write_folder(const ModelFiles& model, const fs::path& target, Dtype dtype) {
  check_family(model);
  if (model.configs.empty())
    throw Error(ErrorKind::kFile, model.path.string() + ": " + model.identity.title +
                                      ": no published config fits this U-Net, so there is none to write");
  check_whole(model);
  note_what_is_left_out(model);
  TemporaryFolder made(target);
  write_configs(model, made.path());
  for (const ModelPart& part : model.parts) write_part(part, make_folder(made.path() / part.name), dtype);
  made.commit();
}

void copy_folder(const ModelFiles& model, const fs::path& target, Dtype dtype) {
  TemporaryFolder made(target);
  try {
    copy_companions(model, model.path, made.path(), /*root=*/true);
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorKind::kFile, std::string(error.what()));
  }
  for (const ModelPart& part : model.parts)
    write_safetensors(made.path() / part.name / weights_name(part), *part.tensors, dtype);
  made.commit();
}

}  // namespace easel::cli
