#include "easel/unet.h"
#include "unet/spec_reading.h"

namespace easel {

namespace {

// Fields of UNet2DModel that give another network (class-conditional models, score SDEs).
void refuse_other_networks(ConfigReader& config) {
  for (const char* name : {"class_embed_type", "num_class_embeds", "time_embedding_dim"}) config.only(name, nullptr);
  config.only("time_embedding_type", "positional");
  config.only("act_fn", "silu");
  config.only("resnet_time_scale_shift", "default");
  config.only("downsample_type", "conv");
  config.only("upsample_type", "conv");
  // dropout is of training, num_train_timesteps of learned time embeddings.
  config.ignore({"dropout", "num_train_timesteps"});
}

void check_divisible(ConfigReader& config, const UNet2DSpec& spec) {
  for (std::size_t i = 0; i < spec.levels.size(); ++i) {
    const UNet2DLevel& level = spec.levels[i];
    const bool of_middle = i + 1 == spec.levels.size() && spec.mid_block && spec.mid_attention;
    if (level.channels % spec.norm_num_groups != 0)
      config.fault("norm_num_groups", "it must divide every one of block_out_channels");
    if (of_middle && level.channels % spec.attn_norm_num_groups != 0)
      config.fault("attn_norm_num_groups", "it must divide the last of block_out_channels");
    if ((level.down_attention || level.up_attention || of_middle) &&
        level.channels % spec.attention_head_dim.value_or(level.channels) != 0)
      config.fault("attention_head_dim", "the width of a head must divide the level's channels");
  }
}

}  // namespace

UNet2DSpec UNet2DSpec::from_json(const json& file, const std::string& where) {
  ConfigReader config(file, where);
  UNet2DSpec spec;
  spec.in_channels = config.integer("in_channels", 3);
  spec.out_channels = config.integer("out_channels", 3);
  const SampleSize size = read_sample_size(config, file, {});
  spec.sample_height = size.height;
  spec.sample_width = size.width;
  spec.layers_per_block = config.integer("layers_per_block", 2);
  if (config.given_as_null("attention_head_dim"))
    spec.attention_head_dim.reset();
  else
    spec.attention_head_dim = config.integer("attention_head_dim", 8);
  spec.norm_num_groups = config.integer("norm_num_groups", 32);
  spec.attn_norm_num_groups = config.integer("attn_norm_num_groups", spec.norm_num_groups);
  spec.norm_eps = config.number("norm_eps", 1e-5);
  spec.mid_block = !config.given_as_null("mid_block_type");
  config.only("mid_block_type", "UNetMidBlock2D");
  spec.mid_attention = config.flag("add_attention", true);
  spec.mid_block_scale_factor = config.number("mid_block_scale_factor", 1.0);
  spec.center_input_sample = config.flag("center_input_sample", false);
  spec.flip_sin_to_cos = config.flag("flip_sin_to_cos", true);
  spec.freq_shift = config.number("freq_shift", 0);
  spec.downsample_padding = config.integer("downsample_padding", 1, 0);

  const std::vector<int64_t> channels = config.list("block_out_channels");
  const std::size_t count = channels.size();
  const auto down = read_block_types(config, "down_block_types", count, {"AttnDownBlock2D", "DownBlock2D"});
  const auto up = read_block_types(config, "up_block_types", count, {"AttnUpBlock2D", "UpBlock2D"});
  for (std::size_t i = 0; i < count; ++i) {
    spec.levels.push_back({.channels = channels[i],
                           .down_attention = !down.empty() && down[i] == "AttnDownBlock2D",
                           .up_attention = !up.empty() && up[count - 1 - i] == "AttnUpBlock2D"});
  }
  check_divisible(config, spec);
  refuse_other_networks(config);
  config.finish();
  return spec;
}

}  // namespace easel
