#include "vae/blocks.h"

namespace easel {

// UpDecoderBlock2D.
struct VaeUpBlock {
  std::vector<ResnetBlock> resnets;
  std::optional<Upsample> upsampler;  // all but the finest level

  VaeUpBlock(const Weights& w, const VaeSpec& s, int64_t in, int64_t out, bool finest) {
    for (int64_t i = 0; i <= s.layers_per_block; ++i)
      resnets.emplace_back(w / "resnets" / i, vae_resnet(s, i == 0 ? in : out, out));
    if (!finest) upsampler.emplace(w / "upsamplers" / 0, out);
  }

  Tensor operator()(Tensor x) const {
    for (const ResnetBlock& resnet : resnets) x = resnet(x);
    return upsampler ? (*upsampler)(x, 2 * x.size(2), 2 * x.size(3)) : x;
  }
};

struct VaeDecoderNetwork {
  std::optional<Conv2d> post_quant_conv;
  Conv2d conv_in;
  VaeMidBlock mid_block;
  std::vector<VaeUpBlock> up_blocks;  // up_blocks.0 is the coarsest
  GroupNorm conv_norm_out;
  Conv2d conv_out;

  VaeDecoderNetwork(const Weights& root, const VaeSpec& s)
      : conv_in(root / "decoder" / "conv_in", {.in = s.latent_channels, .out = s.block_out_channels.back()}),
        mid_block(root / "decoder" / "mid_block", s, s.block_out_channels.back()),
        conv_norm_out(root / "decoder" / "conv_norm_out", s.block_out_channels.front(), s.norm_num_groups, kVaeNormEps),
        conv_out(root / "decoder" / "conv_out", {.in = s.block_out_channels.front(), .out = s.out_channels}) {
    if (s.use_post_quant_conv)
      post_quant_conv.emplace(root / "post_quant_conv", Conv2d::Shape2d{s.latent_channels, s.latent_channels, 1, 1, 0});
    const auto count = static_cast<int64_t>(s.block_out_channels.size());
    int64_t in = s.block_out_channels.back();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t out = s.block_out_channels[static_cast<std::size_t>(count - 1 - i)];
      up_blocks.emplace_back(root / "decoder" / "up_blocks" / i, s, in, out, i == count - 1);
      in = out;
    }
  }

  Tensor operator()(Tensor x) const {
    x = x.contiguous(at::MemoryFormat::ChannelsLast);
    if (post_quant_conv) x = (*post_quant_conv)(x);
    x = mid_block(conv_in(x));
    for (const VaeUpBlock& block : up_blocks) x = block(x);
    return conv_out(conv_norm_out.silu(x));
  }
};

VaeDecoder::VaeDecoder(const Weights& w, const VaeSpec& spec)
    : spec_(spec), network_(std::make_unique<VaeDecoderNetwork>(w, spec)) {}
VaeDecoder::~VaeDecoder() = default;
VaeDecoder::VaeDecoder(VaeDecoder&&) noexcept = default;

Tensor VaeDecoder::operator()(const Tensor& latent) const {
  TORCH_CHECK(latent.dim() == 4 && latent.size(1) == spec_.latent_channels, "VAE latent ", latent.sizes());
  return (*network_)(latent / spec_.scaling_factor + spec_.shift_factor);
}

}  // namespace easel
