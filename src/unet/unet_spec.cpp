#include <algorithm>

#include "easel/unet.h"
#include "unet/spec_reading.h"

namespace easel {

namespace {

// Fields of UNet2DConditionModel that give another network; their value in every Stable Diffusion file is this.
void refuse_other_networks(ConfigReader& config) {
  for (const char* name : {"class_embed_type", "encoder_hid_dim", "encoder_hid_dim_type", "num_class_embeds",
                           "time_embedding_act_fn", "timestep_post_act", "time_embedding_dim"})
    config.only(name, nullptr);
  for (const char* name :
       {"dual_cross_attention", "only_cross_attention", "resnet_skip_time_act", "class_embeddings_concat"})
    config.only(name, false);
  config.only("act_fn", "silu");
  config.only("resnet_time_scale_shift", "default");
  config.only("time_embedding_type", "positional");
  config.only("attention_type", "default");
  config.only("resnet_out_scale_factor", 1.0);
  config.only("conv_in_kernel", 3);
  config.only("conv_out_kernel", 3);
  // upcast_attention: the fused attention keeps its scores in float32 anyway, and diffusers' (AttnProcessor2_0) does
  // not look at the field either. dropout is of training. The others belong to networks that are refused above.
  config.ignore({"upcast_attention", "dropout", "cross_attention_norm", "addition_embed_type_num_heads",
                 "mid_block_only_cross_attention"});
}

// "attention_head_dim" in these files is the number of heads, a name diffusers keeps for their sake;
// num_attention_heads, where it is given, wins.
std::vector<int64_t> read_heads(ConfigReader& config, std::size_t count) {
  const std::vector<int64_t> by_old_name = config.integers("attention_head_dim", count, 8);
  return config.given("num_attention_heads") ? config.integers("num_attention_heads", count) : by_old_name;
}

int64_t read_cross_attention_dim(ConfigReader& config, std::size_t count) {
  const std::vector<int64_t> widths = config.integers("cross_attention_dim", count);
  if (std::adjacent_find(widths.begin(), widths.end(), std::not_equal_to<>()) != widths.end())
    config.fault("cross_attention_dim", "only one width for all levels is supported");
  return widths.front();
}

UNetMidBlock read_mid_block(ConfigReader& config) {
  if (config.given_as_null("mid_block_type")) return UNetMidBlock::kNone;
  const std::string type =
      config.word("mid_block_type", "UNetMidBlock2DCrossAttn", {"UNetMidBlock2DCrossAttn", "UNetMidBlock2D"});
  return type == "UNetMidBlock2D" ? UNetMidBlock::kResnet : UNetMidBlock::kCrossAttention;
}

std::optional<TextTimeSpec> read_text_time(ConfigReader& config) {
  if (config.word("addition_embed_type", "none", {"text_time"}) == "none") {
    config.ignore({"addition_time_embed_dim", "projection_class_embeddings_input_dim"});
    return std::nullopt;
  }
  TextTimeSpec spec{.time_embed_dim = config.integer("addition_time_embed_dim"),
                    .input_width = config.integer("projection_class_embeddings_input_dim")};
  return spec;
}

constexpr const char* kTransformers = "transformer_layers_per_block";
constexpr const char* kReverseTransformers = "reverse_transformer_layers_per_block";

// The middle has the last level's count, the first of them where that level has one for each of its layers.
int64_t read_mid_transformers(ConfigReader& config, const json& file) {
  if (!config.given(kTransformers)) return 1;
  json count = file.at(kTransformers);
  for (int depth = 0; depth < 2 && count.is_array() && !count.empty(); ++depth)
    count = depth ? count.front() : count.back();
  if (count.is_number_integer() && count >= 0) return count.get<int64_t>();
  config.fault(kTransformers, "expected a whole number for the middle block");
  return 1;
}

// SSD-1B and Segmind-Vega have other counts on the way up (coarsest level first) than down, for each layer.
void read_transformers(ConfigReader& config, const json& file, std::vector<UNetLevel>& levels,
                       const std::vector<bool>& down, const std::vector<bool>& up) {
  const std::size_t count = levels.size();
  std::vector<std::size_t> down_counts, up_counts;
  for (std::size_t i = 0; i < count; ++i) {
    const auto layers = static_cast<std::size_t>(levels[i].layers);
    down_counts.push_back(down[i] ? layers : 0);
    up_counts.push_back(up[i] ? layers + 1 : 0);
  }
  const bool own_way_up = config.given(kReverseTransformers);
  const bool by_layer = config.given(kTransformers) && file.at(kTransformers).is_array() &&
                        std::any_of(file.at(kTransformers).begin(), file.at(kTransformers).end(),
                                    [](const json& entry) { return entry.is_array(); });
  if (by_layer && !own_way_up) {
    config.fault(kReverseTransformers, "expected beside a transformer_layers_per_block with one number a layer");
    return;
  }
  auto going_down = config.integer_lists(kTransformers, down_counts, 1);
  std::vector<std::vector<int64_t>> going_up;
  if (own_way_up) {
    std::reverse(up_counts.begin(), up_counts.end());
    going_up = config.integer_lists(kReverseTransformers, up_counts);
    std::reverse(going_up.begin(), going_up.end());
  } else {
    going_up = config.integer_lists(kTransformers, up_counts, 1);
  }
  for (std::size_t i = 0; i < count; ++i) {
    levels[i].down_transformers = std::move(going_down[i]);
    levels[i].up_transformers = std::move(going_up[i]);
  }
}

std::vector<UNetLevel> read_levels(ConfigReader& config, const json& file, const std::vector<int64_t>& channels) {
  const std::size_t count = channels.size();
  const auto down_types = read_block_types(config, "down_block_types", count, {"CrossAttnDownBlock2D", "DownBlock2D"});
  const auto up_types = read_block_types(config, "up_block_types", count, {"CrossAttnUpBlock2D", "UpBlock2D"});
  const auto layers = config.integers("layers_per_block", count, 2);
  const auto heads = read_heads(config, count);
  std::vector<UNetLevel> levels;
  std::vector<bool> down, up;
  for (std::size_t i = 0; i < count; ++i) {
    levels.push_back({.channels = channels[i],
                      .layers = layers[i],
                      .heads = heads[i],
                      .down_transformers = {},
                      .up_transformers = {}});
    down.push_back(!down_types.empty() && down_types[i] == "CrossAttnDownBlock2D");
    // up_block_types is listed in the order of the way up, coarsest first
    up.push_back(!up_types.empty() && up_types[count - 1 - i] == "CrossAttnUpBlock2D");
  }
  read_transformers(config, file, levels, down, up);
  return levels;
}

void check_divisible(ConfigReader& config, const UNetSpec& spec) {
  for (std::size_t i = 0; i < spec.levels.size(); ++i) {
    const UNetLevel& level = spec.levels[i];
    const bool of_middle = i + 1 == spec.levels.size() && spec.mid_block == UNetMidBlock::kCrossAttention;
    if (level.channels % spec.norm_num_groups != 0)
      config.fault("norm_num_groups", "it must divide every one of block_out_channels");
    if ((level.has_attention() || of_middle) && level.channels % level.heads != 0)
      config.fault("attention_head_dim", "the number of heads must divide the level's channels");
  }
}

}  // namespace

UNetSpec UNetSpec::from_json(const json& file, const std::string& where) {
  ConfigReader config(file, where);
  UNetSpec spec;
  spec.in_channels = config.integer("in_channels", 4);
  spec.out_channels = config.integer("out_channels", 4);
  const SampleSize size = read_sample_size(config, file, 64);
  spec.sample_height = size.height;
  spec.sample_width = size.width;
  spec.norm_num_groups = config.integer("norm_num_groups", 32);
  spec.norm_eps = config.number("norm_eps", 1e-5);
  spec.use_linear_projection = config.flag("use_linear_projection", false);
  spec.center_input_sample = config.flag("center_input_sample", false);
  spec.flip_sin_to_cos = config.flag("flip_sin_to_cos", true);
  spec.freq_shift = config.number("freq_shift", 0);
  spec.downsample_padding = config.integer("downsample_padding", 1, 0);
  spec.mid_block_scale_factor = config.number("mid_block_scale_factor", 1.0);
  spec.mid_block = read_mid_block(config);
  if (spec.mid_block == UNetMidBlock::kCrossAttention) spec.mid_transformers = read_mid_transformers(config, file);
  spec.text_time = read_text_time(config);
  if (config.given("time_cond_proj_dim")) spec.time_cond_proj_dim = config.integer("time_cond_proj_dim", {}, 4);

  const std::vector<int64_t> channels = config.list("block_out_channels");
  spec.cross_attention_dim = read_cross_attention_dim(config, channels.size());
  spec.levels = read_levels(config, file, channels);
  check_divisible(config, spec);
  refuse_other_networks(config);
  config.finish();
  return spec;
}

}  // namespace easel
