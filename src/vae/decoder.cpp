#include <utility>

#include "vae/networks.h"
#include "vae/rows.h"

namespace easel {

namespace {

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
    for (const ResnetBlock& resnet : resnets) x = resnet(std::move(x));
    return upsampler ? (*upsampler)(x, 2 * x.size(2), 2 * x.size(3)) : x;
  }
};

// AutoencoderKL's.
struct KlDecoder : VaeDecoderNetwork {
  std::optional<Conv2d> post_quant_conv;
  Conv2d conv_in;
  VaeMidBlock mid_block;
  std::vector<VaeUpBlock> up_blocks;  // up_blocks.0 is the coarsest
  GroupNorm conv_norm_out;
  Conv2d conv_out;

  KlDecoder(const Weights& root, const VaeSpec& s)
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

  Tensor operator()(const Tensor& latent) const override {
    Tensor x = latent.contiguous(at::MemoryFormat::ChannelsLast);
    if (post_quant_conv) x = (*post_quant_conv)(x);
    x = mid_block(conv_in(x));
    for (const VaeUpBlock& block : up_blocks) x = block(std::move(x));
    return conv_out(conv_norm_out.silu(x));
  }

  Tensor in_strips(const Tensor& latent, int64_t strip_bytes) const override;
};

Tensor KlDecoder::in_strips(const Tensor& latent, int64_t strip_bytes) const {
  Tensor x = latent.contiguous(at::MemoryFormat::ChannelsLast);
  if (post_quant_conv) x = (*post_quant_conv)(x);
  int64_t width = x.size(3);
  x = mid_block(conv_in(x));
  const Tensor like = x.narrow(2, 0, 1);  // batch and dtype, for the strips' sizes
  Rows rows = whole(std::exchange(x, {}));
  int64_t channels = like.size(1), strip = 0;
  for (const VaeUpBlock& block : up_blocks) {
    strip = strip_of(like, width, channels, strip_bytes);
    // Two activations of a coarser level take no more than one of the finest.
    const Middle middle = block.upsampler ? Middle::kKept : Middle::kComputedTwice;
    for (const ResnetBlock& layer : block.resnets) rows = stored(resnet(layer, rows, strip, middle), strip);
    channels = block.resnets.back().conv2.out;
    if (!block.upsampler) continue;
    rows = upsampled(block.upsampler->conv, rows);
    width *= 2;
  }
  return gathered(convolved(conv_out, norm_silu(conv_norm_out, rows, strip)), strip);
}

std::unique_ptr<VaeDecoderNetwork> network_of(const Weights& w, const VaeSpec& spec) {
  if (spec.tiny) return tiny_decoder(w, spec);
  return std::make_unique<KlDecoder>(w, spec);
}

}  // namespace

VaeDecoder::VaeDecoder(const Weights& w, const VaeSpec& spec) : spec_(spec), network_(network_of(w, spec)) {}
VaeDecoder::~VaeDecoder() = default;
VaeDecoder::VaeDecoder(VaeDecoder&&) noexcept = default;

Tensor VaeDecoder::operator()(const Tensor& latent) const {
  TORCH_CHECK(latent.dim() == 4 && latent.size(1) == spec_.latent_channels, "VAE latent ", latent.sizes());
  return (*network_)(latent / spec_.scaling_factor + spec_.shift_factor);
}

Tensor VaeDecoder::in_strips(const Tensor& latent, int64_t strip_bytes) const {
  TORCH_CHECK(latent.dim() == 4 && latent.size(1) == spec_.latent_channels, "VAE latent ", latent.sizes());
  return network_->in_strips(latent / spec_.scaling_factor + spec_.shift_factor, strip_bytes);
}

namespace {

// Tiles along one side: of equal length, one `overlap` and more into the next.
struct Tiling {
  int64_t length, overlap;
  std::vector<int64_t> starts;

  // About `tile` cells each: a quarter more rather than one tile more.
  Tiling(int64_t side, int64_t tile) : overlap(std::max<int64_t>(tile / 8, 1)) {
    const int64_t largest = std::max(tile + tile / 4, overlap + 1);
    const int64_t count = side <= largest ? 1 : 1 + (side - largest + largest - overlap - 1) / (largest - overlap);
    length = (side + (count - 1) * overlap + count - 1) / count;
    for (int64_t i = 0; i < count; ++i) starts.push_back(std::min(i * (length - overlap), side - length));
  }
  bool ends_at(int64_t start) const { return start == starts.back(); }
};

// Weights of a tile's pixels along one side: a ramp where another tile lies under it.
Tensor fade(int64_t length, int64_t ramp, bool at_begin, bool at_end) {
  Tensor weight = at::ones({length});
  const Tensor rise = (at::arange(ramp) + 0.5) / static_cast<double>(ramp);
  if (at_begin) weight.narrow(0, 0, ramp).mul_(rise);
  if (at_end) weight.narrow(0, length - ramp, ramp).mul_(rise.flip(0));
  return weight;
}

}  // namespace

Tensor VaeDecoder::in_tiles(const Tensor& latent, int64_t tile) const {
  const int64_t factor = spec_.factor(), height = latent.size(2), width = latent.size(3);
  const auto options = at::TensorOptions().dtype(at::kFloat).device(latent.device());
  Tensor sum = at::zeros({latent.size(0), spec_.out_channels, height * factor, width * factor}, options);
  Tensor weights = at::zeros({1, 1, height * factor, width * factor}, options);
  const Tiling down(height, tile), across(width, tile);
  for (const int64_t top : down.starts) {
    for (const int64_t left : across.starts) {
      const Tensor piece = (*this)(latent.narrow(2, top, down.length).narrow(3, left, across.length)).to(at::kFloat);
      const Tensor weight = fade(piece.size(2), down.overlap * factor, top > 0, !down.ends_at(top)).unsqueeze(1) *
                            fade(piece.size(3), across.overlap * factor, left > 0, !across.ends_at(left));
      const auto part = [&](const Tensor& t) {
        return t.narrow(2, top * factor, piece.size(2)).narrow(3, left * factor, piece.size(3));
      };
      part(sum).add_(piece * weight.to(options));
      part(weights).add_(weight.to(options));
    }
  }
  return (sum / weights).to(latent.scalar_type());
}

}  // namespace easel
