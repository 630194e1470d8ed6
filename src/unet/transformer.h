// The attention of one resolution: diffusers' Transformer2DModel (Rombach et al. 2022, appendix E.2.1).
#pragma once

#include "easel/unet.h"

namespace easel {

struct TransformerSpec {
  int64_t channels, heads, layers, context_width, groups;
  bool linear_projection;  // proj_in and proj_out are linears on tokens, not 1x1 convolutions on the picture
};

// What the network is told, and where the layers' keys and values of it are kept, if they are.
struct TextContext {
  Tensor states;  // [B, T, D]
  TextProjections* projections = nullptr;
};

// Self-attention, or cross-attention where the context is another sequence. No biases on q, k and v.
struct Attention {
  Linear to_q, to_k, to_v, to_out;
  std::optional<Linear> to_qkv;  // of self-attention, in place of the first three's weights
  int64_t heads;
  Attention(const Weights& w, int64_t width, int64_t context_width, int64_t heads);
  // context: [B, S, context_width]
  TextProjections::KeysValues project(const Tensor& context) const;
  TextProjections::KeysValues project(const TextContext& text) const;
  // Makes to_qkv, where the layers allow it; the context is x itself from then on.
  void fuse_projections();
  // Self-attention. x: [B, T, width] → the same, before to_out.
  Tensor of_itself(const Tensor& x) const;
  // x: [B, T, width] → the same, before to_out.
  Tensor operator()(const Tensor& x, const TextProjections::KeysValues& context) const;
  // What is h.sum after attention to a context some of which is silent: what attends to zeros is given the bias alone.
  // SDXL's text is zeros where there is no negative prompt.
  Tensor beside_zeros(const SumAndNorm& h, const TextProjections::KeysValues& context) const;
};

// Shazeer 2020, arXiv 2002.05202: one projection to value and gate, value·gelu(gate), one projection back.
struct GegluFeedForward {
  Linear proj, out;
  GegluFeedForward(const Weights& w, int64_t width);
  Tensor operator()(const Tensor& x, const Tensor& residual) const;
};

struct BasicTransformerBlock {
  LayerNorm norm1;
  Attention attn1;
  LayerNorm norm2;
  Attention attn2;
  LayerNorm norm3;
  GegluFeedForward ff;
  BasicTransformerBlock(const Weights& w, const TransformerSpec& s);
  Tensor operator()(Tensor x, const TextContext& text) const;  // x: [B, H·W, channels]
};

struct Transformer2D {
  GroupNorm norm;
  Linear proj_in;
  std::vector<BasicTransformerBlock> transformer_blocks;
  Linear proj_out;
  Transformer2D(const Weights& w, const TransformerSpec& s);
  Tensor operator()(const Tensor& x, const TextContext& text) const;  // x: [B, C, H, W]
};

}  // namespace easel
