#include "vae/blocks.h"

namespace easel {

ResnetSpec vae_resnet(const VaeSpec& s, int64_t in, int64_t out) {
  return {.in = in, .out = out, .groups = s.norm_num_groups, .eps = kVaeNormEps};
}

VaeMidBlock::VaeMidBlock(const Weights& w, const VaeSpec& s, int64_t channels)
    : resnet_0(w / "resnets" / 0, vae_resnet(s, channels, channels)),
      resnet_1(w / "resnets" / 1, vae_resnet(s, channels, channels)) {
  if (s.mid_block_add_attention)
    attention.emplace(w / "attentions" / 0,
                      SpatialAttentionSpec{.channels = channels, .groups = s.norm_num_groups, .eps = kVaeNormEps});
}

Tensor VaeMidBlock::operator()(Tensor x) const {
  x = resnet_0(std::move(x));
  if (attention) x = (*attention)(x);
  return resnet_1(std::move(x));
}

}  // namespace easel
