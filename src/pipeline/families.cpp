#include "pipeline/families.h"

#include <algorithm>
#include <cstdlib>

namespace easel {

const std::vector<FamilyRow>& family_table() {
  static const std::vector<FamilyRow> rows = {
      {.name = "sd1",
       .title = "Stable Diffusion 1.x",
       .spec_folder = "sd15",
       .pipeline_classes = {"StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline",
                            "StableDiffusionInpaintPipeline", "StableDiffusionInpaintPipelineLegacy",
                            "StableDiffusionInstructPix2PixPipeline", "LatentConsistencyModelPipeline"},
       .cfg_scale = 7.5,
       .steps = 20},
      {.name = "sd2",
       .title = "Stable Diffusion 2.x",
       .spec_folder = "sd2",
       .pipeline_classes = {"StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline",
                            "StableDiffusionInpaintPipeline"},
       .cfg_scale = 7.5,
       .steps = 20},
      {.name = "sdxl",
       .title = "Stable Diffusion XL",
       .spec_folder = "sdxl",
       .pipeline_classes = {"StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline",
                            "StableDiffusionXLInpaintPipeline", "StableDiffusionXLInstructPix2PixPipeline"},
       .cfg_scale = 5.0,
       .steps = 20},
      {.name = "sdxl-refiner",
       .title = "Stable Diffusion XL refiner",
       .spec_folder = "sdxl-refiner",
       .pipeline_classes = {"StableDiffusionXLImg2ImgPipeline"},
       .cfg_scale = 5.0,
       .steps = 20},
      {.name = "alt",
       .title = "AltDiffusion",
       .spec_folder = "",
       .pipeline_classes = {"AltDiffusionPipeline", "AltDiffusionImg2ImgPipeline"},
       .cfg_scale = 7.5,
       .steps = 20},
      {.name = "ddpm",
       .title = "DDPM of pixels",
       .spec_folder = "",
       .pipeline_classes = {"DDPMPipeline", "DDIMPipeline"},
       .cfg_scale = 1.0,
       .steps = 1000},
  };
  return rows;
}

const FamilyRow& family_row(std::string_view name) {
  const auto& rows = family_table();
  const auto row = std::find_if(rows.begin(), rows.end(), [&](const FamilyRow& r) { return r.name == name; });
  TORCH_CHECK(row != rows.end(), "no family ", name);
  return *row;
}

bool is_pipeline_class(const std::string& name) {
  const auto& rows = family_table();
  return std::any_of(rows.begin(), rows.end(), [&](const FamilyRow& row) {
    return std::find(row.pipeline_classes.begin(), row.pipeline_classes.end(), name) != row.pipeline_classes.end();
  });
}

// OpenCLIP's ViT-H is 1024 wide and has 24 layers, of which published folders hold 23.
const FamilyRow& family_of_parts(const Checkpoint& c) {
  if (c.multilingual) return family_row("alt");
  if (c.is_sdxl()) return family_row(c.text_encoder ? "sdxl" : "sdxl-refiner");
  const ClipTextSpec& text = c.text_encoder->spec;
  const bool is_vit_h = text.hidden_act == "gelu" && (text.hidden_size == 1024 || text.num_hidden_layers == 23);
  return family_row(is_vit_h ? "sd2" : "sd1");
}

int64_t Checkpoint::layers_left_out() const {
  return family->name == "sd2" && text_encoder && text_encoder->spec.num_hidden_layers == 23 ? 1 : 0;
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
