#include "vae/networks.h"
#include "vae/rows.h"

namespace easel {

namespace {

LatentPosterior posterior_of(const Tensor& moments) {
  const std::vector<Tensor> halves = moments.chunk(2, 1);
  // diffusers' DiagonalGaussianDistribution clamps the log variance to the same range.
  return {halves[0], at::exp(0.5 * halves[1].clamp(-30.0, 20.0))};
}

// DownEncoderBlock2D.
struct VaeDownBlock {
  std::vector<ResnetBlock> resnets;
  std::optional<Downsample> downsampler;  // all but the coarsest level

  VaeDownBlock(const Weights& w, const VaeSpec& s, int64_t in, int64_t out, bool coarsest) {
    for (int64_t i = 0; i < s.layers_per_block; ++i)
      resnets.emplace_back(w / "resnets" / i, vae_resnet(s, i == 0 ? in : out, out));
    if (!coarsest) downsampler.emplace(w / "downsamplers" / 0, out, /*padding=*/0);
  }

  Tensor operator()(Tensor x) const {
    for (const ResnetBlock& resnet : resnets) x = resnet(std::move(x));
    return downsampler ? (*downsampler)(x) : x;
  }
};

// AutoencoderKL's.
struct KlEncoder : VaeEncoderNetwork {
  Conv2d conv_in;
  std::vector<VaeDownBlock> down_blocks;
  VaeMidBlock mid_block;
  GroupNorm conv_norm_out;
  Conv2d conv_out;  // mean and log variance
  std::optional<Conv2d> quant_conv;

  KlEncoder(const Weights& root, const VaeSpec& s)
      : conv_in(root / "encoder" / "conv_in", {.in = s.in_channels, .out = s.block_out_channels.front()}),
        mid_block(root / "encoder" / "mid_block", s, s.block_out_channels.back()),
        conv_norm_out(root / "encoder" / "conv_norm_out", s.block_out_channels.back(), s.norm_num_groups, kVaeNormEps),
        conv_out(root / "encoder" / "conv_out", {.in = s.block_out_channels.back(), .out = 2 * s.latent_channels}) {
    const int64_t moments = 2 * s.latent_channels;
    if (s.use_quant_conv) quant_conv.emplace(root / "quant_conv", Conv2d::Shape2d{moments, moments, 1, 1, 0});
    const std::size_t count = s.block_out_channels.size();
    int64_t in = s.block_out_channels.front();
    for (std::size_t i = 0; i < count; ++i) {
      const int64_t out = s.block_out_channels[i];
      down_blocks.emplace_back(root / "encoder" / "down_blocks" / static_cast<int64_t>(i), s, in, out, i + 1 == count);
      in = out;
    }
  }

  LatentPosterior operator()(const Tensor& picture) const override {
    Tensor x = conv_in(picture.contiguous(at::MemoryFormat::ChannelsLast));
    for (const VaeDownBlock& block : down_blocks) x = block(std::move(x));
    x = conv_out(conv_norm_out.silu(mid_block(std::move(x))));
    return posterior_of(quant_conv ? (*quant_conv)(x) : x);
  }

  LatentPosterior in_strips(const Tensor& picture, int64_t strip_bytes) const override {
    const Tensor x = picture.contiguous(at::MemoryFormat::ChannelsLast);
    Rows rows = convolved(conv_in, whole(x));
    int64_t width = x.size(3), strip = 0;
    for (const VaeDownBlock& block : down_blocks) {
      strip = strip_of(x, width, block.resnets.back().conv2.out, strip_bytes);
      const Middle middle = &block == &down_blocks.front() ? Middle::kComputedTwice : Middle::kKept;
      for (const ResnetBlock& layer : block.resnets) rows = stored(resnet(layer, rows, strip, middle), strip);
      if (!block.downsampler) continue;
      rows = downsampled(*block.downsampler, rows);
      width /= 2;
    }
    const Tensor moments = conv_out(conv_norm_out.silu(mid_block(gathered(rows, strip))));
    return posterior_of(quant_conv ? (*quant_conv)(moments) : moments);
  }
};

std::unique_ptr<VaeEncoderNetwork> network_of(const Weights& w, const VaeSpec& spec) {
  if (spec.tiny) return tiny_encoder(w, spec);
  return std::make_unique<KlEncoder>(w, spec);
}

void check(const Tensor& picture, const VaeSpec& spec) {
  TORCH_CHECK(picture.dim() == 4 && picture.size(1) == spec.in_channels && picture.size(2) % spec.factor() == 0 &&
                  picture.size(3) % spec.factor() == 0,
              "VAE picture ", picture.sizes());
}

}  // namespace

VaeEncoder::VaeEncoder(const Weights& w, const VaeSpec& spec) : spec_(spec), network_(network_of(w, spec)) {}
VaeEncoder::~VaeEncoder() = default;
VaeEncoder::VaeEncoder(VaeEncoder&&) noexcept = default;

LatentPosterior VaeEncoder::operator()(const Tensor& picture) const {
  check(picture, spec_);
  return (*network_)(picture);
}

LatentPosterior VaeEncoder::in_strips(const Tensor& picture, int64_t strip_bytes) const {
  check(picture, spec_);
  return network_->in_strips(picture, strip_bytes);
}

Tensor VaeEncoder::sample(const LatentPosterior& posterior, const Tensor& noise) const {
  const Tensor& mean = posterior.mean;
  const Tensor latent = posterior.std.defined() ? mean + posterior.std * noise.to(mean.options()) : mean;
  return (latent - spec_.shift_factor) * spec_.scaling_factor;
}

}  // namespace easel
