// vae: the autoencoder between pictures and latents (diffusers' AutoencoderKL; Rombach et al. 2022, arXiv 2112.10752,
// §3.1), or a small one distilled from it (diffusers' AutoencoderTiny; TAESD). B: batch, H × W: picture size, F: the
// factor between picture and latent sides, L: latent channels.
#pragma once

#include "easel/nn.h"

namespace easel {

// What AutoencoderTiny has in place of AutoencoderKL's blocks, coarsest level of the decoder first.
struct TinyVaeSpec {
  int64_t encoder_channels = 64, decoder_channels = 64;  // one width for all levels
  std::vector<int64_t> num_encoder_blocks = {1, 3, 3, 3}, num_decoder_blocks = {3, 3, 3, 1};
  bool has_encoder = true;  // the decoder may come in a file by itself
};

// vae/config.json. block_out_channels[0] is the finest level; F = 2^(levels − 1).
struct VaeSpec {
  int64_t in_channels = 3, out_channels = 3;
  int64_t latent_channels = 4;
  std::vector<int64_t> block_out_channels;
  int64_t layers_per_block = 2;
  int64_t norm_num_groups = 32;
  bool mid_block_add_attention = true;
  bool use_quant_conv = true, use_post_quant_conv = true;
  bool force_upcast = true;  // half precision overflows in this VAE's activations
  // latent for the U-Net = (latent − shift)·scale. Numbers of the file, never of the program: four projects used
  // SD1.5's for SDXL.
  double scaling_factor = 0.18215;
  double shift_factor = 0.0;
  std::optional<TinyVaeSpec> tiny;  // of AutoencoderTiny, whose latents come without a posterior

  bool has_encoder() const { return !tiny || tiny->has_encoder; }
  int64_t factor() const { return int64_t{1} << (block_out_channels.size() - 1); }

  // Throws Error(kFile) with every fault.
  static VaeSpec from_json(const json& config, const std::string& where);
};

// The config.json of an AutoencoderTiny with these tensors, named as diffusers does; nullopt for those of another
// network, and without a decoder.
std::optional<json> tiny_vae_config(const WeightSource& tensors);

class VaeEncoderNetwork;
class VaeDecoderNetwork;

inline constexpr int64_t kStripBytes = int64_t{16} << 20;
inline constexpr int64_t kTile = 64;

// Latents → pictures. Binds `decoder.*` and, of AutoencoderKL, `post_quant_conv.*`. Immutable once built.
class VaeDecoder {
 public:
  VaeDecoder(const Weights& w, const VaeSpec& spec);
  ~VaeDecoder();
  VaeDecoder(VaeDecoder&&) noexcept;
  // latent as the U-Net knows it (scaled): [B, L, H/F, W/F] → [B, 3, H, W] in about [−1, 1], unclamped.
  Tensor operator()(const Tensor& latent) const;
  // The same in bounded memory, up to rounding: strips of rows with GroupNorm's statistics of the whole picture, a
  // third to two thirds slower. `strip_bytes`: of one activation of a strip.
  Tensor in_strips(const Tensor& latent, int64_t strip_bytes = kStripBytes) const;
  // Nearly the same, faster: tiles of about `tile` latent cells a side, each with statistics of its own, that overlap
  // by an eighth and fade into each other.
  Tensor in_tiles(const Tensor& latent, int64_t tile = kTile) const;

 private:
  VaeSpec spec_;
  std::unique_ptr<VaeDecoderNetwork> network_;
};

// The posterior q(z | picture) = N(mean, std²), in unscaled latent units: [B, L, H/F, W/F] each. Of AutoencoderTiny,
// which knows one latent alone, std is undefined.
struct LatentPosterior {
  Tensor mean, std;
};

// Pictures → latents. Binds `encoder.*` and, of AutoencoderKL, `quant_conv.*`. Immutable once built.
class VaeEncoder {
 public:
  VaeEncoder(const Weights& w, const VaeSpec& spec);
  ~VaeEncoder();
  VaeEncoder(VaeEncoder&&) noexcept;
  // picture: [B, 3, H, W] in [−1, 1], sides multiples of F.
  LatentPosterior operator()(const Tensor& picture) const;
  // As VaeDecoder's.
  LatentPosterior in_strips(const Tensor& picture, int64_t strip_bytes = kStripBytes) const;
  // A latent as the U-Net knows it: (mean + std·noise − shift)·scale. noise: undefined where std is.
  Tensor sample(const LatentPosterior& posterior, const Tensor& noise) const;

 private:
  VaeSpec spec_;
  std::unique_ptr<VaeEncoderNetwork> network_;
};

}  // namespace easel
