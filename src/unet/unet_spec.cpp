#include "easel/unet.h"

namespace easel {

namespace {

// Fields of UNet2DConditionModel that give another network; their value in every Stable Diffusion 1.x file is this.
void refuse_other_networks(ConfigReader& config) {
  for (const char* name : {"class_embed_type", "addition_embed_type", "time_cond_proj_dim", "encoder_hid_dim",
                           "encoder_hid_dim_type", "num_class_embeds", "time_embedding_act_fn", "timestep_post_act",
                           "time_embedding_dim", "reverse_transformer_layers_per_block"})
    config.only(name, nullptr);
  for (const char* name :
       {"dual_cross_attention", "only_cross_attention", "resnet_skip_time_act", "class_embeddings_concat"})
    config.only(name, false);
  config.only("act_fn", "silu");
  config.only("mid_block_type", "UNetMidBlock2DCrossAttn");
  config.only("resnet_time_scale_shift", "default");
  config.only("time_embedding_type", "positional");
  config.only("attention_type", "default");
  config.only("resnet_out_scale_factor", 1.0);
  config.only("conv_in_kernel", 3);
  config.only("conv_out_kernel", 3);
  config.only("dropout", 0.0);
  config.ignore({"upcast_attention", "cross_attention_norm", "addition_embed_type_num_heads", "addition_time_embed_dim",
                 "projection_class_embeddings_input_dim", "mid_block_only_cross_attention"});
}

// "attention_head_dim" in these files is the number of heads, a name diffusers keeps for their sake;
// num_attention_heads, where it is given, wins.
std::vector<int64_t> heads_of(ConfigReader& config, std::size_t count) {
  const std::vector<int64_t> by_old_name = config.integers("attention_head_dim", count, 8);
  return config.given("num_attention_heads") ? config.integers("num_attention_heads", count) : by_old_name;
}

void read_sample_size(ConfigReader& config, const json& file, UNetSpec& spec) {
  const auto size = file.find("sample_size");
  if (size != file.end() && size->is_array()) {
    const std::vector<int64_t> sides = config.integers("sample_size", 2);
    spec.sample_height = sides[0];
    spec.sample_width = sides[1];
  } else {
    spec.sample_height = spec.sample_width = config.integer("sample_size", 64);
  }
}

void check_divisible(ConfigReader& config, const UNetSpec& spec) {
  for (const UNetLevel& level : spec.levels) {
    if (level.channels % spec.norm_num_groups != 0)
      config.fault("norm_num_groups", "it must divide every one of block_out_channels");
    if (level.channels % level.heads != 0)
      config.fault("attention_head_dim", "the number of heads must divide the level's channels");
  }
}

}  // namespace

UNetSpec UNetSpec::from_json(const json& file, const std::string& where) {
  ConfigReader config(file, where);
  UNetSpec spec;
  spec.in_channels = config.integer("in_channels", 4);
  spec.out_channels = config.integer("out_channels", 4);
  read_sample_size(config, file, spec);
  spec.cross_attention_dim = config.integer("cross_attention_dim");
  spec.norm_num_groups = config.integer("norm_num_groups", 32);
  spec.norm_eps = config.number("norm_eps", 1e-5);
  spec.use_linear_projection = config.flag("use_linear_projection", false);
  spec.center_input_sample = config.flag("center_input_sample", false);
  spec.flip_sin_to_cos = config.flag("flip_sin_to_cos", true);
  spec.freq_shift = config.number("freq_shift", 0);
  spec.downsample_padding = config.integer("downsample_padding", 1, 0);
  spec.mid_block_scale_factor = config.number("mid_block_scale_factor", 1.0);

  const std::vector<int64_t> channels = config.list("block_out_channels");
  const std::size_t count = channels.size();
  const auto down = config.words("down_block_types", {"CrossAttnDownBlock2D", "DownBlock2D"});
  const auto up = config.words("up_block_types", {"CrossAttnUpBlock2D", "UpBlock2D"});
  if (down.size() != count) config.fault("down_block_types", "expected as many as block_out_channels");
  if (up.size() != count) config.fault("up_block_types", "expected as many as block_out_channels");
  const auto layers = config.integers("layers_per_block", count, 2);
  const auto heads = heads_of(config, count);
  const auto transformer_layers = config.integers("transformer_layers_per_block", count, 1);
  for (std::size_t i = 0; i < count; ++i) {
    spec.levels.push_back({.channels = channels[i],
                           .layers = layers[i],
                           .heads = heads[i],
                           .transformer_layers = transformer_layers[i],
                           .down_attention = down.size() == count && down[i] == "CrossAttnDownBlock2D",
                           // up_block_types is listed in the order of the way up, coarsest first
                           .up_attention = up.size() == count && up[count - 1 - i] == "CrossAttnUpBlock2D"});
  }
  check_divisible(config, spec);
  refuse_other_networks(config);
  config.finish();
  return spec;
}

}  // namespace easel
