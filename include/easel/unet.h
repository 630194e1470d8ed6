// unet: the conditional U-Net that predicts noise (diffusers' UNet2DConditionModel; Rombach et al. 2022, arXiv
// 2112.10752). B: batch, C: channels, H × W: latent size (any, odd ones too), T: text tokens, D: width of the text's
// hidden states.
#pragma once

#include "easel/nn.h"

namespace easel {

// One resolution of the U-Net.
struct UNetLevel {
  int64_t channels;
  int64_t layers;              // ResNet blocks down; one more up
  int64_t heads;               // of its attention; channels / heads is a head's width
  int64_t transformer_layers;  // of each attention
  bool down_attention, up_attention;
};

// unet/config.json. levels[0] is the finest.
struct UNetSpec {
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  int64_t sample_height = 64, sample_width = 64;  // the latent size it was trained at
  std::vector<UNetLevel> levels;
  int64_t cross_attention_dim = 768;
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;
  bool use_linear_projection = false;
  bool center_input_sample = false;
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
  int64_t downsample_padding = 1;
  double mid_block_scale_factor = 1;

  int64_t time_width() const { return 4 * levels.front().channels; }

  // Throws Error(kFile) with every fault: missing and misshapen fields, and by name those of other kinds of U-Net.
  static UNetSpec from_json(const json& config, const std::string& where);
};

struct DownBlock;
struct MidBlock;
struct UpBlock;

// Immutable once built: calls may run concurrently.
class UNet {
 public:
  UNet(const Weights& w, const UNetSpec& spec);
  ~UNet();
  UNet(UNet&&) noexcept;

  // sample: [B, in_channels, H, W]; t: the training timestep, fractional for some schedules; context: [B, T, D] →
  // [B, out_channels, H, W], channels-last. Tensors in the weights' dtype and on their device.
  Tensor operator()(const Tensor& sample, double t, const Tensor& context) const;

  const UNetSpec& spec() const { return spec_; }

 private:
  Tensor time_vector(double t, const Tensor& like) const;

  UNetSpec spec_;
  Conv2d conv_in_;
  Linear time_linear_1_, time_linear_2_;
  std::vector<DownBlock> down_blocks_;
  std::unique_ptr<MidBlock> mid_block_;
  std::vector<UpBlock> up_blocks_;
  GroupNorm conv_norm_out_;
  Conv2d conv_out_;
};

}  // namespace easel
