// diffusers' names → those of CompVis' latent-diffusion, whose SD1.x checkpoints are single files
// (scripts/convert_original_stable_diffusion_to_diffusers.py in diffusers goes the other way).
#include <algorithm>
#include <array>

#include "easel/weights.h"

namespace easel {

namespace {

using Names = std::map<std::string, std::string>;

const Names kUNetRoot = {{"time_embedding.linear_1", "time_embed.0"},
                         {"time_embedding.linear_2", "time_embed.2"},
                         {"conv_in", "input_blocks.0.0"},
                         {"conv_norm_out", "out.0"},
                         {"conv_out", "out.2"}};
const Names kUNetResnet = {{"norm1", "in_layers.0"},  {"conv1", "in_layers.2"},  {"time_emb_proj", "emb_layers.1"},
                           {"norm2", "out_layers.0"}, {"conv2", "out_layers.3"}, {"conv_shortcut", "skip_connection"}};
const Names kVaeResnet = {
    {"norm1", "norm1"}, {"conv1", "conv1"}, {"norm2", "norm2"}, {"conv2", "conv2"}, {"conv_shortcut", "nin_shortcut"}};
const Names kVaeAttention = {
    {"group_norm", "norm"}, {"to_q", "q"}, {"to_k", "k"}, {"to_v", "v"}, {"to_out.0", "proj_out"}};

const std::string& look_up(const Names& names, const std::string& ours) {
  const auto found = names.find(ours);
  TORCH_CHECK(found != names.end(), "no LDM name for ", ours);
  return found->second;
}

// The words of a module's name between its dots.
class Words {
 public:
  explicit Words(const std::string& module) {
    for (std::size_t begin = 0; begin <= module.size();) {
      const std::size_t end = std::min(module.find('.', begin), module.size());
      words_.push_back(module.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  // Empty beyond the last one.
  std::string operator[](std::size_t i) const { return i < words_.size() ? words_[i] : ""; }
  int64_t number(std::size_t i) const {
    const std::string word = (*this)[i];
    TORCH_CHECK(!word.empty() && word.find_first_not_of("0123456789") == std::string::npos, "no LDM name: ", from(0));
    return std::stoll(word);
  }
  std::string from(std::size_t i) const {
    std::string rest = (*this)[i];
    while (++i < words_.size()) rest += "." + words_[i];
    return rest;
  }

 private:
  std::vector<std::string> words_;
};

std::string dotted(const std::string& block, int64_t index) { return block + "." + std::to_string(index); }

// A ResNet block is slot 0 of its LDM block; the transformer beside it slot 1, with the names inside unchanged.
std::string unet_layer(const std::string& block, const std::string& kind, const std::string& tail) {
  if (kind == "resnets") return block + ".0." + look_up(kUNetResnet, tail);
  TORCH_CHECK(kind == "attentions", "no LDM name for ", kind, " in ", block);
  return block + ".1." + tail;
}

// LDM counts the blocks of all levels in one row: per level its layers, then its resampler. Up, the resampler has no
// block of its own: it is the last slot of the level's last layer.
std::string unet_module(const std::string& module, const json& config) {
  if (const auto root = kUNetRoot.find(module); root != kUNetRoot.end()) return root->second;
  const Words words(module);
  if (words[0] == "mid_block") {  // resnets.0, attentions.0, resnets.1
    if (words[1] == "attentions") return "middle_block.1." + words.from(3);
    return dotted("middle_block", 2 * words.number(2)) + "." + look_up(kUNetResnet, words.from(3));
  }
  const int64_t level = words.number(1), index = words.number(3);
  const int64_t layers = config.at("layers_per_block").get<int64_t>();
  if (words[0] == "down_blocks") {
    const int64_t first = 1 + level * (layers + 1);  // block 0 is conv_in
    if (words[2] == "downsamplers") return dotted("input_blocks", first + layers) + ".0.op";
    return unet_layer(dotted("input_blocks", first + index), words[2], words.from(4));
  }
  TORCH_CHECK(words[0] == "up_blocks", "no LDM name for ", module);
  const int64_t first = level * (layers + 1);
  if (words[2] == "upsamplers") {
    const auto type = config.at("up_block_types").at(static_cast<std::size_t>(level)).get<std::string>();
    return dotted("output_blocks", first + layers) + (type.starts_with("CrossAttn") ? ".2.conv" : ".1.conv");
  }
  return unet_layer(dotted("output_blocks", first + index), words[2], words.from(4));
}

// LDM numbers the decoder's levels from the finest.
std::string vae_module(const std::string& module, const json& config) {
  const Words words(module);
  const std::string side = words[0] + ".";  // encoder, decoder
  if (words[1] == "conv_norm_out") return side + "norm_out";
  if (words[1] == "mid_block") {
    if (words[2] == "attentions") return side + "mid.attn_1." + look_up(kVaeAttention, words.from(4));
    return side + "mid.block_" + std::to_string(words.number(3) + 1) + "." + look_up(kVaeResnet, words.from(4));
  }
  const bool down = words[1] == "down_blocks";
  if (!down && words[1] != "up_blocks") return module;  // conv_in, conv_out, quant_conv, post_quant_conv
  const auto levels = static_cast<int64_t>(config.at("block_out_channels").size());
  const int64_t level = down ? words.number(2) : levels - 1 - words.number(2);
  const std::string block = dotted(side + (down ? "down" : "up"), level);
  if (words[3] != "resnets") return block + (down ? ".downsample.conv" : ".upsample.conv");
  return dotted(block + ".block", words.number(4)) + "." + look_up(kVaeResnet, words.from(5));
}

}  // namespace

std::string ldm_key(std::string_view part, const std::string& ours, const json& config) {
  if (part == "text_encoder") return "cond_stage_model.transformer." + ours;
  const std::size_t dot = ours.rfind('.');
  TORCH_CHECK(dot != std::string::npos, "no LDM name for ", ours);
  const std::string module = ours.substr(0, dot), leaf = ours.substr(dot);  // ".weight", ".bias"
  if (part == "unet") return "model.diffusion_model." + unet_module(module, config) + leaf;
  TORCH_CHECK(part == "vae", "no LDM names for ", part);
  return "first_stage_model." + vae_module(module, config) + leaf;
}

bool is_known_extra(const std::string& name) {
  // LatentDiffusion.register_schedule and LitEma (CompVis), k-diffusion's denoiser.
  static const std::set<std::string> kBuffers = {"alphas_cumprod",
                                                 "alphas_cumprod_prev",
                                                 "betas",
                                                 "denoiser.log_sigmas",
                                                 "denoiser.sigmas",
                                                 "log_one_minus_alphas_cumprod",
                                                 "logvar",
                                                 "lvlb_weights",
                                                 "posterior_log_variance_clipped",
                                                 "posterior_mean_coef1",
                                                 "posterior_mean_coef2",
                                                 "posterior_variance",
                                                 "scale_factor",
                                                 "sqrt_alphas_cumprod",
                                                 "sqrt_one_minus_alphas_cumprod",
                                                 "sqrt_recip_alphas_cumprod",
                                                 "sqrt_recipm1_alphas_cumprod"};
  static constexpr std::array kLeaves = {"position_ids", "logit_scale", "text_projection", "text_projection.weight"};
  if (kBuffers.contains(name) || name.starts_with("model_ema.")) return true;
  return std::any_of(kLeaves.begin(), kLeaves.end(),
                     [&](const std::string& leaf) { return name == leaf || name.ends_with("." + leaf); });
}

}  // namespace easel
