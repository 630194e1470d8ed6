// Pixel-space models as DDPMPipeline and DDIMPipeline folders hold them (Ho et al. 2020, arXiv 2006.11239; Song et al.
// 2021, arXiv 2010.02502): one U-Net and a scheduler, no text and no VAE.
#pragma once

#include "pipeline/trajectory.h"

namespace easel {

// Whether model_index.json's _class_name is one of these pipelines.
bool is_pixel_pipeline(const std::string& class_name);

// A folder that was opened: configs are read and checked, weights are not.
struct PixelModel {
  std::filesystem::path path;
  std::filesystem::path unet_folder;  // PATH/unet; google/ddpm-* keep the U-Net's files in PATH itself
  UNet2DSpec unet;
  SchedulerConfig scheduler;
  const SamplerRow* sampler = nullptr;  // the pipeline's own
  int64_t steps = 1000;                 // the pipeline's own
};

// Throws Error(kFile) with every fault of the configs.
PixelModel open_pixel_model(const std::filesystem::path& folder);

SourcePtr open_weights(const PixelModel& model, bool prefer_half);

// Fills every field that such a model has, and an empty prompt. Throws Error(kUsage) with every fault: a text, another
// size than the model's, fields without effect, steps the schedule cannot take. `seed` must be set.
Request resolve(const Request& given, const PixelModel& model, const Precision& precision,
                std::vector<std::string>* notes = nullptr);

std::unique_ptr<Sampler> make_sampler(const Request& resolved, const PixelModel& model);

class PixelPipeline {
 public:
  // Throws Error(kFile) naming every tensor that is missing, misshapen or unexpected.
  PixelPipeline(PixelModel model, Precision precision);

  // As Pipeline::generate. Picture::latent is the picture itself: [1, C, H, W] float32, in about [−1, 1].
  Picture generate(const Request& resolved, const OnProgress& on_progress = {}, Trajectory* trajectory = nullptr);

  const PixelModel& model() const { return model_; }
  const Precision& precision() const { return precision_; }

 private:
  const UNet2D& unet(std::optional<UNet2D>& stage, at::ScalarType dtype, double* seconds) const;
  Tensor sample(const Request& r, const UNet2D& unet, at::ScalarType dtype, const OnProgress& on_progress,
                TrajectoryKeeper& keeper) const;

  PixelModel model_;
  Precision precision_;
  std::optional<UNet2D> unet_, float32_;
};

}  // namespace easel
