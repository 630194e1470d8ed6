#include "pipeline/families.h"

#include <cstdlib>

namespace easel {

const std::vector<FamilyRow>& family_table() {
  static const std::vector<FamilyRow> rows = {
      {.name = "sd1",
       .title = "Stable Diffusion 1.x",
       .spec_folder = "sd15",
       .pipeline_classes = {"StableDiffusionPipeline"},
       .cfg_scale = 7.5,
       .steps = 20},
  };
  return rows;
}

std::string supported_families() {
  std::vector<std::string> titles;
  for (const FamilyRow& row : family_table()) titles.push_back(row.title);
  return listed(titles);
}

std::filesystem::path models_folder() {
  const char* chosen = std::getenv("EASEL_MODELS");
  return chosen != nullptr && *chosen != '\0' ? chosen : EASEL_MODELS_DIR;
}

std::filesystem::path find_model(const std::string& model) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(model, error)) return model;
  const fs::path bundled = models_folder() / model;
  const bool is_name = !model.empty() && model.find('/') == std::string::npos && model[0] != '.';
  return is_name && fs::exists(bundled / "model_index.json", error) ? bundled : fs::path(model);
}

}  // namespace easel
