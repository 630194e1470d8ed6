#include "unet/condition_embedding.h"

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

}  // namespace

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

ConditionEmbedding::ConditionEmbedding(const Weights& w, const UNetSpec& s)
    : time_embedding(w / "time_embedding", s.levels.front().channels, s.time_width(), s.time_cond_proj_dim) {
  if (s.text_time) add_embedding.emplace(w / "add_embedding", s.text_time->input_width, s.time_width());
}

Tensor ConditionEmbedding::operator()(const UNetSpec& s, const Tensor& like, const std::vector<double>& timesteps,
                                      const AddedConditions& added) const {
  std::vector<Tensor> waves;
  for (const double t : timesteps)
    waves.push_back(timestep_embedding(t, s.levels.front().channels, s.flip_sin_to_cos, s.freq_shift));
  Tensor guidance;
  if (added.guidance_scale)
    guidance = guidance_embedding(*added.guidance_scale, s.time_cond_proj_dim).to(like.options());
  Tensor time = time_embedding(at::cat(waves).to(like.options()), guidance);
  if (s.text_time) {
    const Tensor sizes =
        number_embeddings(added.time_ids, s.text_time->time_embed_dim, s.flip_sin_to_cos, s.freq_shift);
    const Tensor beside = (*add_embedding)(at::cat({added.text_embeds, sizes.to(like.options())}, 1));
    time = (time.unsqueeze(1) + beside).flatten(0, 1);
  }
  return at::silu(time);
}

void check_arguments(const UNetSpec& s, const Tensor& sample, const Tensor& context, const AddedConditions& added) {
  TORCH_CHECK(sample.dim() == 4 && sample.size(1) == s.in_channels, "U-Net input ", sample.sizes());
  TORCH_CHECK(context.dim() == 3 && context.size(2) == s.cross_attention_dim, "U-Net context ", context.sizes());
  TORCH_CHECK(added.guidance_scale.has_value() == (s.time_cond_proj_dim > 0), "U-Net guidance embedding");
  TORCH_CHECK(
      added.text_embeds.defined() == s.text_time.has_value() && added.time_ids.defined() == s.text_time.has_value(),
      "U-Net text_embeds and time_ids");
  if (s.text_time)
    TORCH_CHECK(added.time_ids.dim() == 2 && added.text_embeds.dim() == 2 &&
                    added.time_ids.size(1) == s.time_id_count(added.text_embeds.size(1)),
                "U-Net text_embeds ", added.text_embeds.sizes(), ", time_ids ", added.time_ids.sizes());
}

}  // namespace easel
