#include "easel/unet.h"
#include "unet/blocks.h"
#include "unet/time_embedding.h"

namespace easel {

namespace {

SpatialAttentionSpec attention_spec(const UNet2DSpec& s, int64_t channels) {
  return {.channels = channels,
          .heads = channels / s.attention_head_dim.value_or(channels),
          .groups = s.norm_num_groups,
          .eps = s.norm_eps};
}

MidSpec mid_spec(const UNet2DSpec& s) {
  MidSpec mid{.resnets = s.mid_block ? 2 : 0, .attention = {}, .output_scale = s.mid_block_scale_factor};
  if (s.mid_block && s.mid_attention) {
    SpatialAttentionSpec attention = attention_spec(s, s.levels.back().channels);
    attention.groups = s.attn_norm_num_groups;
    attention.output_scale = s.mid_block_scale_factor;
    mid.attention = attention;
  }
  return mid;
}

BodySpec body_spec(const UNet2DSpec& s) {
  BodySpec body{.in_channels = s.in_channels,
                .out_channels = s.out_channels,
                .levels = {},
                .mid = mid_spec(s),
                .time_width = s.time_width(),
                .groups = s.norm_num_groups,
                .downsample_padding = s.downsample_padding,
                .eps = s.norm_eps};
  const auto layers = static_cast<std::size_t>(s.layers_per_block);
  for (const UNet2DLevel& level : s.levels) {
    const AttentionSpec attention = attention_spec(s, level.channels);
    body.levels.push_back({.channels = level.channels,
                           .layers = s.layers_per_block,
                           .down = std::vector<AttentionSpec>(level.down_attention ? layers : 0, attention),
                           .up = std::vector<AttentionSpec>(level.up_attention ? layers + 1 : 0, attention)});
  }
  return body;
}

}  // namespace

struct UNet2D::Network {
  TimestepEmbedding time_embedding;
  UNetBody body;

  Network(const Weights& w, const UNet2DSpec& s)
      : time_embedding(w / "time_embedding", s.levels.front().channels, s.time_width()), body(w, body_spec(s)) {}
};

UNet2D::UNet2D(const Weights& w, const UNet2DSpec& spec) : spec_(spec), network_(std::make_unique<Network>(w, spec)) {}
UNet2D::~UNet2D() = default;
UNet2D::UNet2D(UNet2D&&) noexcept = default;

Tensor UNet2D::operator()(const Tensor& sample, double t) const {
  TORCH_CHECK(sample.dim() == 4 && sample.size(1) == spec_.in_channels, "U-Net input ", sample.sizes());
  const Tensor wave = timestep_embedding(t, spec_.levels.front().channels, spec_.flip_sin_to_cos, spec_.freq_shift);
  const Tensor time = at::silu(network_->time_embedding(wave.to(sample.options())));
  return network_->body(spec_.center_input_sample ? 2 * sample - 1 : sample, time, /*context=*/{});
}

}  // namespace easel
