// The blocks of both U-Nets. diffusers' DownBlock2D, CrossAttnDownBlock2D and AttnDownBlock2D are one block with no,
// one and another attention behind its ResNet blocks; so are the three UpBlocks and the middle's.
#pragma once

#include <variant>

#include "easel/unet.h"
#include "unet/transformer.h"

namespace easel {

// Pixels to text and to each other, or pixels to each other alone.
using AttentionSpec = std::variant<TransformerSpec, SpatialAttentionSpec>;

struct BlockAttention {
  std::variant<Transformer2D, SpatialAttention> kind;
  BlockAttention(const Weights& w, const AttentionSpec& s);
  Tensor operator()(const Tensor& x, const TextContext& context) const;  // x: [B, C, H, W]; context: [B, T, D]
};

struct LevelSpec {
  int64_t channels, layers;
  std::vector<AttentionSpec> down, up;  // layers and layers + 1 of them, or none
};

struct MidSpec {
  int64_t resnets;  // 0: no middle block; the attention is behind the first of two
  std::optional<AttentionSpec> attention;
  double output_scale;
};

struct BodySpec {
  int64_t in_channels, out_channels;
  std::vector<LevelSpec> levels;  // the finest first
  MidSpec mid;
  int64_t time_width, groups, downsample_padding;
  double eps;

  ResnetSpec resnet(int64_t in, int64_t out) const {
    return {.in = in, .out = out, .time_width = time_width, .groups = groups, .eps = eps};
  }
};

struct DownBlock {
  std::vector<ResnetBlock> resnets;
  std::vector<BlockAttention> attentions;
  std::optional<Downsample> downsampler;  // all but the coarsest level
  DownBlock(const Weights& w, const BodySpec& s, std::size_t level);
  // Appends to `skips` what the way up will concatenate: after each layer, and after the downsampler; stops when there
  // are `most`.
  Tensor operator()(Tensor x, const TimeEmbedding& time, const TextContext& context, std::vector<Tensor>& skips,
                    std::size_t most = SIZE_MAX) const;
};

struct MidBlock {
  std::vector<ResnetBlock> resnets;
  std::optional<BlockAttention> attention;
  MidBlock(const Weights& w, const BodySpec& s);
  Tensor operator()(Tensor x, const TimeEmbedding& time, const TextContext& context) const;
};

struct UpBlock {
  std::vector<ResnetBlock> resnets;
  std::vector<BlockAttention> attentions;
  std::optional<Upsample> upsampler;  // all but the finest level
  UpBlock(const Weights& w, const BodySpec& s, std::size_t level);
  // From layer `first` on: takes its skips from the end of `skips` and upsamples to the size of the next one. x is put
  // where `deep`, if there is one, wants it.
  Tensor operator()(Tensor x, const TimeEmbedding& time, const TextContext& context, std::vector<Tensor>& skips,
                    std::size_t first = 0, DeepFeature* deep = nullptr) const;
};

// All of a U-Net but its embeddings.
struct UNetBody {
  Conv2d conv_in;
  std::vector<DownBlock> down_blocks;
  MidBlock mid_block;
  std::vector<UpBlock> up_blocks;  // up_blocks.0 is the coarsest
  GroupNorm conv_norm_out;
  Conv2d conv_out;
  UNetBody(const Weights& w, const BodySpec& s);
  // x: [B, in_channels, H, W]; context: undefined states without text →
  // [B, out_channels, H, W]; control: null, or what is added behind the middle; deep: null, or what is kept or reused
  Tensor operator()(Tensor x, const TimeEmbedding& time, const TextContext& context,
                    const ControlResiduals* control = nullptr, DeepFeature* deep = nullptr) const;

 private:
  Tensor shallow(Tensor x, const TimeEmbedding& time, const TextContext& context, const ControlResiduals* control,
                 DeepFeature& deep) const;
};

}  // namespace easel
