#include "unet/blocks.h"

namespace easel {

namespace {

TransformerSpec transformer_spec(const UNetSpec& s, const UNetLevel& level) {
  return {.channels = level.channels,
          .heads = level.heads,
          .layers = level.transformer_layers,
          .context_width = s.cross_attention_dim,
          .groups = s.norm_num_groups,
          .linear_projection = s.use_linear_projection};
}

ResnetSpec resnet_spec(const UNetSpec& s, int64_t in, int64_t out) {
  return {.in = in, .out = out, .time_width = s.time_width(), .groups = s.norm_num_groups, .eps = s.norm_eps};
}

}  // namespace

DownBlock::DownBlock(const Weights& w, const UNetSpec& s, std::size_t index) {
  const UNetLevel& level = s.levels[index];
  int64_t in = index == 0 ? level.channels : s.levels[index - 1].channels;
  for (int64_t i = 0; i < level.layers; ++i) {
    resnets.emplace_back(w / "resnets" / i, resnet_spec(s, in, level.channels));
    if (level.down_attention) attentions.emplace_back(w / "attentions" / i, transformer_spec(s, level));
    in = level.channels;
  }
  if (index + 1 < s.levels.size()) downsampler.emplace(w / "downsamplers" / 0, level.channels, s.downsample_padding);
}

Tensor DownBlock::operator()(Tensor x, const Tensor& time, const Tensor& context, std::vector<Tensor>& skips) const {
  for (std::size_t i = 0; i < resnets.size(); ++i) {
    x = resnets[i](x, time);
    if (!attentions.empty()) x = attentions[i](x, context);
    skips.push_back(x);
  }
  if (downsampler) skips.push_back(x = (*downsampler)(x));
  return x;
}

namespace {

ResnetSpec mid_resnet(const UNetSpec& s) {
  const int64_t channels = s.levels.back().channels;
  ResnetSpec spec = resnet_spec(s, channels, channels);
  spec.output_scale = s.mid_block_scale_factor;
  return spec;
}

}  // namespace

MidBlock::MidBlock(const Weights& w, const UNetSpec& s)
    : resnet_0(w / "resnets" / 0, mid_resnet(s)),
      attention(w / "attentions" / 0, transformer_spec(s, s.levels.back())),
      resnet_1(w / "resnets" / 1, mid_resnet(s)) {}

Tensor MidBlock::operator()(const Tensor& x, const Tensor& time, const Tensor& context) const {
  return resnet_1(attention(resnet_0(x, time), context), time);
}

UpBlock::UpBlock(const Weights& w, const UNetSpec& s, std::size_t index) {
  const UNetLevel& level = s.levels[index];
  const bool coarsest = index + 1 == s.levels.size();
  const int64_t from_below = coarsest ? level.channels : s.levels[index + 1].channels;
  const int64_t from_above = index == 0 ? level.channels : s.levels[index - 1].channels;
  for (int64_t i = 0; i <= level.layers; ++i) {
    // The last skip of a level is what entered it on the way down, so it has the finer level's channels.
    const int64_t skip = i == level.layers ? from_above : level.channels;
    const int64_t in = i == 0 ? from_below : level.channels;
    resnets.emplace_back(w / "resnets" / i, resnet_spec(s, in + skip, level.channels));
    if (level.up_attention) attentions.emplace_back(w / "attentions" / i, transformer_spec(s, level));
  }
  if (index > 0) upsampler.emplace(w / "upsamplers" / 0, level.channels);
}

Tensor UpBlock::operator()(Tensor x, const Tensor& time, const Tensor& context, std::vector<Tensor>& skips) const {
  for (std::size_t i = 0; i < resnets.size(); ++i) {
    x = resnets[i](at::cat({x, skips.back()}, 1), time);
    skips.pop_back();
    if (!attentions.empty()) x = attentions[i](x, context);
  }
  // Twice the size, or one less where the way down met an odd size (diffusers' forward_upsample_size).
  if (upsampler) x = (*upsampler)(x, skips.back().size(2), skips.back().size(3));
  return x;
}

}  // namespace easel
