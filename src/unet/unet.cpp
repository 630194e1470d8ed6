#include "easel/unet.h"

#include "unet/blocks.h"
#include "unet/time_embedding.h"

namespace easel {

namespace {

AttentionSpec attention_spec(const UNetSpec& s, const UNetLevel& level, int64_t transformers) {
  return TransformerSpec{.channels = level.channels,
                         .heads = level.heads,
                         .layers = transformers,
                         .context_width = s.cross_attention_dim,
                         .groups = s.norm_num_groups,
                         .linear_projection = s.use_linear_projection};
}

MidSpec mid_spec(const UNetSpec& s) {
  MidSpec mid{.resnets = 0, .attention = {}, .output_scale = s.mid_block_scale_factor};
  if (s.mid_block == UNetMidBlock::kResnet) mid.resnets = 1;
  if (s.mid_block == UNetMidBlock::kCrossAttention) {
    mid.resnets = 2;
    mid.attention = attention_spec(s, s.levels.back(), s.mid_transformers);
  }
  return mid;
}

BodySpec body_spec(const UNetSpec& s) {
  BodySpec body{.in_channels = s.in_channels,
                .out_channels = s.out_channels,
                .levels = {},
                .mid = mid_spec(s),
                .time_width = s.time_width(),
                .groups = s.norm_num_groups,
                .downsample_padding = s.downsample_padding,
                .eps = s.norm_eps};
  for (const UNetLevel& level : s.levels) {
    LevelSpec spec{.channels = level.channels, .layers = level.layers, .down = {}, .up = {}};
    for (const int64_t count : level.down_transformers) spec.down.push_back(attention_spec(s, level, count));
    for (const int64_t count : level.up_transformers) spec.up.push_back(attention_spec(s, level, count));
    body.levels.push_back(std::move(spec));
  }
  return body;
}

}  // namespace

struct UNet::Network {
  TimestepEmbedding time_embedding;
  std::optional<TimestepEmbedding> add_embedding;
  UNetBody body;

  Network(const Weights& w, const UNetSpec& s)
      : time_embedding(w / "time_embedding", s.levels.front().channels, s.time_width(), s.time_cond_proj_dim),
        body(w, body_spec(s)) {
    if (s.text_time) add_embedding.emplace(w / "add_embedding", s.text_time->input_width, s.time_width());
  }
};

UNet::UNet(const Weights& w, const UNetSpec& spec) : spec_(spec), network_(std::make_unique<Network>(w, spec)) {}
UNet::~UNet() = default;
UNet::UNet(UNet&&) noexcept = default;

int64_t UNetSpec::time_id_count(int64_t pooled_width) const {
  const int64_t rest = text_time.value().input_width - pooled_width;
  return rest > 0 && rest % text_time->time_embed_dim == 0 ? rest / text_time->time_embed_dim : 0;
}

// The SiLU in front of every ResNet block's time projection is the same, so it is applied once.
Tensor UNet::time_vector(const Tensor& like, double t, const AddedConditions& added) const {
  const Tensor wave = timestep_embedding(t, spec_.levels.front().channels, spec_.flip_sin_to_cos, spec_.freq_shift);
  Tensor guidance;
  if (added.guidance_scale)
    guidance = guidance_embedding(*added.guidance_scale, spec_.time_cond_proj_dim).to(like.options());
  Tensor time = network_->time_embedding(wave.to(like.options()), guidance);
  if (spec_.text_time) {
    const Tensor sizes =
        number_embeddings(added.time_ids, spec_.text_time->time_embed_dim, spec_.flip_sin_to_cos, spec_.freq_shift);
    time = time + (*network_->add_embedding)(at::cat({added.text_embeds, sizes.to(like.options())}, 1));
  }
  return at::silu(time);
}

Tensor UNet::operator()(const Tensor& sample, double t, const Tensor& context, const AddedConditions& added) const {
  TORCH_CHECK(sample.dim() == 4 && sample.size(1) == spec_.in_channels, "U-Net input ", sample.sizes());
  TORCH_CHECK(context.dim() == 3 && context.size(2) == spec_.cross_attention_dim, "U-Net context ", context.sizes());
  TORCH_CHECK(added.guidance_scale.has_value() == (spec_.time_cond_proj_dim > 0), "U-Net guidance embedding");
  TORCH_CHECK(added.text_embeds.defined() == spec_.text_time.has_value() &&
                  added.time_ids.defined() == spec_.text_time.has_value(),
              "U-Net text_embeds and time_ids");
  if (spec_.text_time)
    TORCH_CHECK(added.time_ids.dim() == 2 && added.text_embeds.dim() == 2 &&
                    added.time_ids.size(1) == spec_.time_id_count(added.text_embeds.size(1)),
                "U-Net text_embeds ", added.text_embeds.sizes(), ", time_ids ", added.time_ids.sizes());
  const Tensor x = spec_.center_input_sample ? 2 * sample - 1 : sample;
  return network_->body(x, time_vector(sample, t, added), context);
}

}  // namespace easel
