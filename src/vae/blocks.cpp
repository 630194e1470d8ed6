#include "vae/blocks.h"

namespace easel {

ResnetSpec vae_resnet(const VaeSpec& s, int64_t in, int64_t out) {
  return {.in = in, .out = out, .groups = s.norm_num_groups, .eps = kVaeNormEps};
}

// Files saved before diffusers 0.12 carry the old names of the projections, and so does every published SD1.x and SDXL
// folder.
SpatialAttention::SpatialAttention(const Weights& w, const VaeSpec& s, int64_t channels)
    : group_norm(w / "group_norm", channels, s.norm_num_groups, kVaeNormEps),
      to_q(w.either({"to_q", "query"}), channels, channels),
      to_k(w.either({"to_k", "key"}), channels, channels),
      to_v(w.either({"to_v", "value"}), channels, channels),
      to_out(w.either({"to_out.0", "proj_attn"}), channels, channels) {}

Tensor SpatialAttention::operator()(const Tensor& x) const {
  const Tensor tokens = to_tokens(group_norm(x));
  Tensor out = to_out(easel::attention(to_q(tokens), to_k(tokens), to_v(tokens), /*heads=*/1));
  return from_tokens(out, x.size(2), x.size(3)).add_(x);
}

VaeMidBlock::VaeMidBlock(const Weights& w, const VaeSpec& s, int64_t channels)
    : resnet_0(w / "resnets" / 0, vae_resnet(s, channels, channels)),
      resnet_1(w / "resnets" / 1, vae_resnet(s, channels, channels)) {
  if (s.mid_block_add_attention) attention.emplace(w / "attentions" / 0, s, channels);
}

Tensor VaeMidBlock::operator()(const Tensor& x) const {
  const Tensor h = resnet_0(x);
  return resnet_1(attention ? (*attention)(h) : h);
}

}  // namespace easel
