// easel models: what is bundled, and what the published checkpoints are called and where they go.
#include <algorithm>

#include "cli/arguments.h"
#include "cli/results.h"
#include "cli/table.h"
#include "easel/pipeline.h"

namespace easel::cli {

namespace {

namespace fs = std::filesystem;

// Licences as their publishers name them; a reminder, not advice.
struct Published {
  const char* name;
  const char* family;      // FamilyRow::name
  const char* repository;  // on the Hugging Face hub
  const char* licence;
};
constexpr std::array kPublished = {
    Published{"Stable Diffusion 1.5", "sd1", "stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML Open RAIL-M"},
    Published{"Stable Diffusion 1.4", "sd1", "CompVis/stable-diffusion-v1-4", "CreativeML Open RAIL-M"},
    Published{"Stable Diffusion 2.1", "sd2", "stabilityai/stable-diffusion-2-1", "CreativeML Open RAIL++-M"},
    Published{"Stable Diffusion XL", "sdxl", "stabilityai/stable-diffusion-xl-base-1.0", "CreativeML Open RAIL++-M"},
    Published{"SDXL refiner", "sdxl-refiner", "stabilityai/stable-diffusion-xl-refiner-1.0",
              "CreativeML Open RAIL++-M"},
    Published{"SSD-1B", "sdxl", "segmind/SSD-1B", "Apache-2.0"},
    Published{"DDPM CIFAR-10 32x32", "ddpm", "google/ddpm-cifar10-32", "Apache-2.0"},
    Published{"DDPM CelebA-HQ 256x256", "ddpm", "google/ddpm-celebahq-256", "Apache-2.0"},
    Published{"AltDiffusion m9", "alt", "BAAI/AltDiffusion-m9", "CreativeML Open RAIL-M"},
};

bool is_supported(const char* family) {
  const auto& rows = family_table();
  return std::any_of(rows.begin(), rows.end(), [&](const FamilyRow& row) { return row.name == family; });
}

uintmax_t bytes_under(const fs::path& folder) {
  uintmax_t bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
    if (entry.is_regular_file(error)) bytes += entry.file_size(error);
  }
  return bytes;
}

// Folders beside specs/: what -m finds by name.
std::vector<fs::path> found_by_name() {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(models_folder(), error)) {
    if (fs::exists(entry.path() / "model_index.json", error)) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::string as_text() {
  Table here = {{"NAME", "MB", "FOLDER"}};
  for (const fs::path& folder : found_by_name())
    here.push_back({folder.filename().string(), std::to_string(bytes_under(folder) / 1000000), folder.string()});
  Table published = {{"PUBLISHED", "REPOSITORY (HUGGING FACE)", "LICENCE"}};
  for (const Published& row : kPublished) {
    if (is_supported(row.family)) published.push_back({row.name, row.repository, row.licence});
  }
  return "Here, by name (-m NAME; " + std::string(kBundledModel) + " when -m and EASEL_MODEL are absent):\n\n" +
         aligned(here) +
         "\nNot here. Download one yourself, having read its licence, and give -m the folder (with model_index.json) "
         "or the\n"
         "single file; a folder put into " +
         models_folder().string() + " is found by name:\n\n" + aligned(published);
}

std::string as_json_lines() {
  std::string text;
  for (const fs::path& folder : found_by_name()) {
    const nlohmann::ordered_json line = {
        {"name", folder.filename().string()}, {"folder", folder.string()}, {"bytes", bytes_under(folder)}};
    text += line.dump() + "\n";
  }
  for (const Published& row : kPublished) {
    if (!is_supported(row.family)) continue;
    const nlohmann::ordered_json line = {
        {"name", row.name}, {"family", row.family}, {"repository", row.repository}, {"licence", row.licence}};
    text += line.dump() + "\n";
  }
  return text;
}

}  // namespace

int models(const Arguments& arguments) {
  CLI::App app("The models that are here, and where the published ones are to be had.", "easel models");
  const CLI::Option* json = add_switch(app, "--json", "one JSON object a line", "Options");
  Faults faults;
  if (!parse(app, arguments, "", faults)) return 0;
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel models --help'");
  print_text(json->count() > 0 ? as_json_lines() : as_text());
  return 0;
}

}  // namespace easel::cli
