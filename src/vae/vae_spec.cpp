#include "vae/tiny_spec.h"

namespace easel {

VaeSpec VaeSpec::from_json(const json& file, const std::string& where) {
  if (is_tiny_vae(file)) return tiny_spec_from_json(file, where);
  ConfigReader config(file, where);
  VaeSpec spec;
  spec.in_channels = config.integer("in_channels", 3);
  spec.out_channels = config.integer("out_channels", 3);
  spec.latent_channels = config.integer("latent_channels", 4);
  spec.block_out_channels = config.list("block_out_channels");
  spec.layers_per_block = config.integer("layers_per_block", 1);
  spec.norm_num_groups = config.integer("norm_num_groups", 32);
  spec.mid_block_add_attention = config.flag("mid_block_add_attention", true);
  spec.use_quant_conv = config.flag("use_quant_conv", true);
  spec.use_post_quant_conv = config.flag("use_post_quant_conv", true);
  spec.force_upcast = config.flag("force_upcast", true);
  spec.scaling_factor = config.number("scaling_factor", 0.18215);
  spec.shift_factor = config.number("shift_factor", 0.0);

  const std::size_t count = spec.block_out_channels.size();
  if (config.words("down_block_types", {"DownEncoderBlock2D"}).size() != count)
    config.fault("down_block_types", "expected as many as block_out_channels");
  if (config.words("up_block_types", {"UpDecoderBlock2D"}).size() != count)
    config.fault("up_block_types", "expected as many as block_out_channels");
  for (const int64_t channels : spec.block_out_channels) {
    if (channels % spec.norm_num_groups != 0)
      config.fault("norm_num_groups", "it must divide every one of block_out_channels");
  }
  if (!(spec.scaling_factor > 0)) config.fault("scaling_factor", "expected a number above 0");
  config.only("act_fn", "silu");
  for (const char* name : {"latents_mean", "latents_std"}) config.only(name, nullptr);
  config.ignore({"sample_size"});
  config.finish();
  return spec;
}

}  // namespace easel
