#include "unet/blocks.h"

namespace easel {

namespace {

std::variant<Transformer2D, SpatialAttention> attention_of_kind(const Weights& w, const AttentionSpec& s) {
  if (const auto* transformer = std::get_if<TransformerSpec>(&s)) return Transformer2D(w, *transformer);
  return SpatialAttention(w, std::get<SpatialAttentionSpec>(s));
}

}  // namespace

BlockAttention::BlockAttention(const Weights& w, const AttentionSpec& s) : kind(attention_of_kind(w, s)) {}

Tensor BlockAttention::operator()(const Tensor& x, const TextContext& context) const {
  if (const auto* transformer = std::get_if<Transformer2D>(&kind)) return (*transformer)(x, context);
  return std::get<SpatialAttention>(kind)(x);
}

DownBlock::DownBlock(const Weights& w, const BodySpec& s, std::size_t index) {
  const LevelSpec& level = s.levels[index];
  int64_t in = index == 0 ? level.channels : s.levels[index - 1].channels;
  for (int64_t i = 0; i < level.layers; ++i) {
    resnets.emplace_back(w / "resnets" / i, s.resnet(in, level.channels));
    if (!level.down.empty()) attentions.emplace_back(w / "attentions" / i, level.down[static_cast<std::size_t>(i)]);
    in = level.channels;
  }
  if (index + 1 < s.levels.size()) downsampler.emplace(w / "downsamplers" / 0, level.channels, s.downsample_padding);
}

Tensor DownBlock::operator()(Tensor x, const TimeEmbedding& time, const TextContext& context,
                             std::vector<Tensor>& skips, std::size_t most) const {
  for (std::size_t i = 0; i < resnets.size() && skips.size() < most; ++i) {
    x = resnets[i](std::move(x), time);
    if (!attentions.empty()) x = attentions[i](x, context);
    skips.push_back(x);
  }
  if (downsampler && skips.size() < most) skips.push_back(x = (*downsampler)(x));
  return x;
}

MidBlock::MidBlock(const Weights& w, const BodySpec& s) {
  const int64_t channels = s.levels.back().channels;
  ResnetSpec spec = s.resnet(channels, channels);
  spec.output_scale = s.mid.output_scale;
  for (int64_t i = 0; i < s.mid.resnets; ++i) resnets.emplace_back(w / "resnets" / i, spec);
  if (s.mid.attention) attention.emplace(w / "attentions" / 0, *s.mid.attention);
}

Tensor MidBlock::operator()(Tensor x, const TimeEmbedding& time, const TextContext& context) const {
  for (std::size_t i = 0; i < resnets.size(); ++i) {
    x = resnets[i](std::move(x), time);
    if (i == 0 && attention) x = (*attention)(x, context);
  }
  return x;
}

UpBlock::UpBlock(const Weights& w, const BodySpec& s, std::size_t index) {
  const LevelSpec& level = s.levels[index];
  const bool coarsest = index + 1 == s.levels.size();
  const int64_t from_below = coarsest ? level.channels : s.levels[index + 1].channels;
  const int64_t from_above = index == 0 ? level.channels : s.levels[index - 1].channels;
  for (int64_t i = 0; i <= level.layers; ++i) {
    // The last skip of a level is what entered it on the way down, so it has the finer level's channels.
    const int64_t skip = i == level.layers ? from_above : level.channels;
    const int64_t in = i == 0 ? from_below : level.channels;
    resnets.emplace_back(w / "resnets" / i, s.resnet(in + skip, level.channels));
    if (!level.up.empty()) attentions.emplace_back(w / "attentions" / i, level.up[static_cast<std::size_t>(i)]);
  }
  if (index > 0) upsampler.emplace(w / "upsamplers" / 0, level.channels);
}

Tensor UpBlock::operator()(Tensor x, const TimeEmbedding& time, const TextContext& context, std::vector<Tensor>& skips,
                           std::size_t first, DeepFeature* deep) const {
  if (first >= resnets.size()) return x;
  for (std::size_t i = first; i < resnets.size(); ++i) {
    if (deep != nullptr && skips.size() == static_cast<std::size_t>(deep->branch) + 1) deep->x = x;
    x = resnets[i](at::cat({x, skips.back()}, 1), time);
    skips.pop_back();
    if (!attentions.empty()) x = attentions[i](x, context);
  }
  // Twice the size, or one less where the way down met an odd size (diffusers' forward_upsample_size).
  if (upsampler) x = (*upsampler)(x, skips.back().size(2), skips.back().size(3));
  return x;
}

UNetBody::UNetBody(const Weights& w, const BodySpec& s)
    : conv_in(w / "conv_in", {.in = s.in_channels, .out = s.levels.front().channels}),
      mid_block(w / "mid_block", s),
      conv_norm_out(w / "conv_norm_out", s.levels.front().channels, s.groups, s.eps),
      conv_out(w / "conv_out", {.in = s.levels.front().channels, .out = s.out_channels}) {
  const std::size_t count = s.levels.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto index = static_cast<int64_t>(i);
    down_blocks.emplace_back(w / "down_blocks" / index, s, i);
    up_blocks.emplace_back(w / "up_blocks" / index, s, count - 1 - i);
  }
}

namespace {

// To all skips, or to the first ones.
void add(const std::vector<Tensor>& control, std::vector<Tensor>& skips) {
  TORCH_CHECK(control.size() >= skips.size(), "control for ", control.size(), " of ", skips.size(), " skips");
  for (std::size_t i = 0; i < skips.size(); ++i) skips[i] = skips[i] + control[i];
}

}  // namespace

Tensor UNetBody::operator()(Tensor x, const TimeEmbedding& time, const TextContext& context,
                            const ControlResiduals* control, DeepFeature* deep) const {
  x = x.contiguous(at::MemoryFormat::ChannelsLast);
  if (deep != nullptr && deep->is_reused) return shallow(std::move(x), time, context, control, *deep);
  std::vector<Tensor> skips = {x = conv_in(x)};
  for (const DownBlock& block : down_blocks) x = block(x, time, context, skips);
  x = mid_block(x, time, context);
  if (control != nullptr) add(control->down, skips);
  if (control != nullptr && control->mid.defined()) x = x + control->mid;
  for (const UpBlock& block : up_blocks) x = block(x, time, context, skips, /*first=*/0, deep);
  TORCH_CHECK(skips.empty(), "skip connections left over");
  return conv_out(conv_norm_out.silu(x));
}

Tensor UNetBody::shallow(Tensor x, const TimeEmbedding& time, const TextContext& context,
                         const ControlResiduals* control, DeepFeature& deep) const {
  const auto most = static_cast<std::size_t>(deep.branch) + 1;
  std::vector<Tensor> skips = {x = conv_in(x)};
  for (const DownBlock& block : down_blocks) x = block(x, time, context, skips, most);
  if (control != nullptr) add(control->down, skips);
  std::size_t left_out = 0;  // layers of the way up
  for (const UpBlock& block : up_blocks) left_out += block.resnets.size();
  left_out -= skips.size();
  x = deep.x;
  for (const UpBlock& block : up_blocks) {
    const std::size_t first = std::min(left_out, block.resnets.size());
    x = block(x, time, context, skips, first, &deep);
    left_out -= first;
  }
  return conv_out(conv_norm_out.silu(x));
}

}  // namespace easel
