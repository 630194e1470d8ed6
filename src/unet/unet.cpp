#include "easel/unet.h"

#include "unet/blocks.h"

namespace easel {

UNet::~UNet() = default;
UNet::UNet(UNet&&) noexcept = default;

UNet::UNet(const Weights& w, const UNetSpec& spec)
    : spec_(spec),
      conv_in_(w / "conv_in", {.in = spec.in_channels, .out = spec.levels.front().channels}),
      time_linear_1_(w / "time_embedding" / "linear_1", spec.levels.front().channels, spec.time_width()),
      time_linear_2_(w / "time_embedding" / "linear_2", spec.time_width(), spec.time_width()),
      mid_block_(std::make_unique<MidBlock>(w / "mid_block", spec)),
      conv_norm_out_(w / "conv_norm_out", spec.levels.front().channels, spec.norm_num_groups, spec.norm_eps),
      conv_out_(w / "conv_out", {.in = spec.levels.front().channels, .out = spec.out_channels}) {
  const std::size_t count = spec.levels.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto index = static_cast<int64_t>(i);
    down_blocks_.emplace_back(w / "down_blocks" / index, spec, i);
    up_blocks_.emplace_back(w / "up_blocks" / index, spec, count - 1 - i);  // up_blocks.0 is the coarsest
  }
}

// The SiLU in front of every ResNet block's time projection is the same, so it is applied once.
Tensor UNet::time_vector(double t, const Tensor& like) const {
  const Tensor wave =
      timestep_embedding(t, spec_.levels.front().channels, spec_.flip_sin_to_cos, spec_.freq_shift).to(like.options());
  return at::silu(time_linear_2_(at::silu(time_linear_1_(wave))));
}

Tensor UNet::operator()(const Tensor& sample, double t, const Tensor& context) const {
  TORCH_CHECK(sample.dim() == 4 && sample.size(1) == spec_.in_channels, "U-Net input ", sample.sizes());
  TORCH_CHECK(context.dim() == 3 && context.size(2) == spec_.cross_attention_dim, "U-Net context ", context.sizes());
  const Tensor time = time_vector(t, sample);

  Tensor x = sample.contiguous(at::MemoryFormat::ChannelsLast);
  if (spec_.center_input_sample) x = 2 * x - 1;
  x = conv_in_(x);
  std::vector<Tensor> skips = {x};
  for (const DownBlock& block : down_blocks_) x = block(x, time, context, skips);
  x = (*mid_block_)(x, time, context);
  for (const UpBlock& block : up_blocks_) x = block(x, time, context, skips);
  TORCH_CHECK(skips.empty(), "skip connections left over");
  return conv_out_(conv_norm_out_.silu(x));
}

}  // namespace easel
