// The names of CompVis' latent-diffusion (SD1.x), Stability's generative-models (SD2.x, SDXL) and OpenCLIP;
// diffusers/loaders/single_file_utils.py goes one of the two ways.
#include "weights/key_map.h"

namespace easel {

namespace {

std::string dotted(const std::string& block, int64_t index) { return block + "." + std::to_string(index); }

const json& field(const json& config, const char* name) {
  const auto found = config.find(name);
  if (found == config.end() || found->is_null())
    throw Error(ErrorKind::kFile,
                std::string("config.json: ") + name + " is missing, so the blocks cannot be numbered");
  return *found;
}

// One number for all levels, or a list.
std::vector<int64_t> layers_per_level(const json& config, std::size_t levels) {
  const json& layers = field(config, "layers_per_block");
  if (!layers.is_array()) return std::vector<int64_t>(levels, layers.get<int64_t>());
  auto list = layers.get<std::vector<int64_t>>();
  if (list.size() != levels)
    throw Error(ErrorKind::kFile, "config.json: layers_per_block lists " + std::to_string(list.size()) +
                                      " levels, block_out_channels " + std::to_string(levels));
  return list;
}

bool has_attention(const json& config, const char* types, std::size_t level) {
  return field(config, types).at(level).get<std::string>().starts_with("CrossAttn");
}

bool is_set(const json& config, const char* name) {
  const auto found = config.find(name);
  return found != config.end() && !found->is_null();
}

}  // namespace

KeyMap::Inside::Inside(const Names& names, Names old) : ours_to_theirs(names), old_spellings(std::move(old)) {
  for (const auto& [ours, theirs] : names) theirs_to_ours.emplace(theirs, ours);
}

const KeyMap::Inside& KeyMap::unet_resnet() {
  static const Inside inside({{"norm1", "in_layers.0"},
                              {"conv1", "in_layers.2"},
                              {"time_emb_proj", "emb_layers.1"},
                              {"norm2", "out_layers.0"},
                              {"conv2", "out_layers.3"},
                              {"conv_shortcut", "skip_connection"}});
  return inside;
}

const KeyMap::Inside& KeyMap::vae_resnet() {
  static const Inside inside({{"norm1", "norm1"},
                              {"conv1", "conv1"},
                              {"norm2", "norm2"},
                              {"conv2", "conv2"},
                              {"conv_shortcut", "nin_shortcut"}});
  return inside;
}

const KeyMap::Inside& KeyMap::vae_attention() {
  static const Inside inside(
      {{"group_norm", "norm"}, {"to_q", "q"}, {"to_k", "k"}, {"to_v", "v"}, {"to_out.0", "proj_out"}},
      {{"query", "q"}, {"key", "k"}, {"value", "v"}, {"proj_attn", "proj_out"}});
  return inside;
}

const KeyMap::Inside& KeyMap::open_clip_layer() {
  static const Inside inside({{"layer_norm1", "ln_1"},
                              {"layer_norm2", "ln_2"},
                              {"mlp.fc1", "mlp.c_fc"},
                              {"mlp.fc2", "mlp.c_proj"},
                              {"self_attn.out_proj", "attn.out_proj"}});
  return inside;
}

void KeyMap::add(std::string ours, std::string theirs, const Inside* inside) {
  const Module module = {ours, theirs, inside};
  TORCH_CHECK(by_ours_.emplace(std::move(ours), module).second, "two LDM names for ", module.ours);
  TORCH_CHECK(by_theirs_.emplace(std::move(theirs), module).second, "two names for LDM's ", module.theirs);
}

void KeyMap::add_layer(const std::string& ours, int64_t index, const std::string& theirs, bool attention) {
  add(dotted(ours + ".resnets", index), theirs + ".0", &unet_resnet());
  if (attention) add(dotted(ours + ".attentions", index), theirs + ".1");
}

// LDM counts the blocks of all levels in one row: per level its layers, then its resampler. In a block, the ResNet is
// slot 0 and the transformer slot 1. Up, the resampler has no block of its own: it is the last slot of the level's
// last.
void KeyMap::add_way_down(const json& config) {
  add("time_embedding.linear_1", "time_embed.0");
  add("time_embedding.linear_2", "time_embed.2");
  const bool text_time = is_set(config, "addition_embed_type"), classes = is_set(config, "class_embed_type");
  for (const auto& [ours, used] : {std::pair("add_embedding", text_time), {"class_embedding", classes && !text_time}}) {
    if (!used) continue;
    add(std::string(ours) + ".linear_1", "label_emb.0.0");
    add(std::string(ours) + ".linear_2", "label_emb.0.2");
  }
  add("conv_in", "input_blocks.0.0");
  add("mid_block.resnets.0", "middle_block.0", &unet_resnet());
  add("mid_block.attentions.0", "middle_block.1");
  add("mid_block.resnets.1", "middle_block.2", &unet_resnet());
  const std::size_t levels = field(config, "block_out_channels").size();
  const std::vector<int64_t> layers = layers_per_level(config, levels);
  int64_t block = 1;
  for (std::size_t level = 0; level < levels; ++level) {
    const std::string ours = "down_blocks." + std::to_string(level);
    const bool attention = has_attention(config, "down_block_types", level);
    for (int64_t i = 0; i < layers[level]; ++i, ++block) add_layer(ours, i, dotted("input_blocks", block), attention);
    if (level + 1 < levels) add(ours + ".downsamplers.0.conv", dotted("input_blocks", block++) + ".0.op");
  }
}

KeyMap KeyMap::unet(const json& config) {
  KeyMap map;
  map.add_way_down(config);
  map.add("conv_norm_out", "out.0");
  map.add("conv_out", "out.2");
  const std::size_t levels = field(config, "block_out_channels").size();
  const std::vector<int64_t> layers = layers_per_level(config, levels);
  int64_t block = 0;
  for (std::size_t level = 0; level < levels; ++level) {  // coarsest first
    const std::string ours = "up_blocks." + std::to_string(level);
    const bool attention = has_attention(config, "up_block_types", level);
    for (int64_t i = 0; i <= layers[levels - 1 - level]; ++i, ++block)
      map.add_layer(ours, i, dotted("output_blocks", block), attention);
    if (level + 1 < levels)
      map.add(ours + ".upsamplers.0.conv", dotted("output_blocks", block - 1) + (attention ? ".2.conv" : ".1.conv"));
  }
  return map;
}

// The control picture's embedding is a row of convolutions with SiLUs between, in every second place.
KeyMap KeyMap::controlnet(const json& config) {
  KeyMap map;
  map.add_way_down(config);
  const std::size_t levels = field(config, "block_out_channels").size();
  auto skips = static_cast<int64_t>(levels);  // conv_in's and the downsamplers'
  for (const int64_t layers : layers_per_level(config, levels)) skips += layers;
  for (int64_t i = 0; i < skips; ++i) map.add(dotted("controlnet_down_blocks", i), dotted("zero_convs", i) + ".0");
  map.add("controlnet_mid_block", "middle_block_out.0");
  const auto blocks = static_cast<int64_t>(2 * (field(config, "conditioning_embedding_out_channels").size() - 1));
  map.add("controlnet_cond_embedding.conv_in", "input_hint_block.0");
  for (int64_t i = 0; i < blocks; ++i)
    map.add(dotted("controlnet_cond_embedding.blocks", i), dotted("input_hint_block", 2 * (i + 1)));
  map.add("controlnet_cond_embedding.conv_out", dotted("input_hint_block", 2 * (blocks + 1)));
  return map;
}

// LDM numbers the decoder's levels from the finest.
KeyMap KeyMap::vae(const json& config) {
  KeyMap map;
  map.add("quant_conv", "quant_conv");
  map.add("post_quant_conv", "post_quant_conv");
  const auto levels = static_cast<int64_t>(field(config, "block_out_channels").size());
  const int64_t layers = config.value("layers_per_block", int64_t{1});
  for (const std::string side : {"encoder", "decoder"}) {
    map.add(side + ".conv_in", side + ".conv_in");
    map.add(side + ".conv_norm_out", side + ".norm_out");
    map.add(side + ".conv_out", side + ".conv_out");
    map.add(side + ".mid_block.resnets.0", side + ".mid.block_1", &vae_resnet());
    map.add(side + ".mid_block.attentions.0", side + ".mid.attn_1", &vae_attention());
    map.add(side + ".mid_block.resnets.1", side + ".mid.block_2", &vae_resnet());
    const bool down = side == "encoder";
    for (int64_t level = 0; level < levels; ++level) {
      const std::string ours = dotted(side + (down ? ".down_blocks" : ".up_blocks"), level);
      const std::string theirs = dotted(side + (down ? ".down" : ".up"), down ? level : levels - 1 - level);
      for (int64_t i = 0; i < layers + (down ? 0 : 1); ++i)
        map.add(dotted(ours + ".resnets", i), dotted(theirs + ".block", i), &vae_resnet());
      if (level + 1 < levels)
        map.add(ours + (down ? ".downsamplers.0.conv" : ".upsamplers.0.conv"),
                theirs + (down ? ".downsample.conv" : ".upsample.conv"));
    }
  }
  return map;
}

KeyMap KeyMap::open_clip(int64_t layers) {
  KeyMap map;
  map.add("text_model.embeddings.token_embedding", "token_embedding");
  map.add("text_model.embeddings.position_embedding.weight", "positional_embedding");
  map.add("text_model.final_layer_norm", "ln_final");
  map.add("text_projection.weight", "text_projection");
  for (int64_t i = 0; i < layers; ++i)
    map.add(dotted("text_model.encoder.layers", i), dotted("transformer.resblocks", i), &open_clip_layer());
  return map;
}

namespace {

// "weight" of "conv1.weight", with its dot.
std::size_t leaf_of(const std::string& name) { return std::min(name.rfind('.'), name.size()); }

// Splits `name` at the longest begin, up to a dot or the end, that `modules` knows.
template <class Modules>
auto module_of(const Modules& modules, const std::string& name) {
  for (std::size_t end = name.size(); end != std::string::npos && end > 0; end = name.rfind('.', end - 1)) {
    const auto found = modules.find(name.substr(0, end));
    if (found != modules.end()) return std::pair(&found->second, name.substr(end));
  }
  return std::pair<const typename Modules::mapped_type*, std::string>(nullptr, "");
}

// `tail`: what follows the module's name, with its dot (".conv1.weight").
std::optional<std::string> translated(const std::string& module, const std::string& tail,
                                      std::initializer_list<const std::map<std::string, std::string>*> tables) {
  const std::size_t leaf = leaf_of(tail);
  if (leaf == 0 || tail.empty()) return std::nullopt;
  for (const auto* names : tables) {
    const auto found = names->find(tail.substr(1, leaf - 1));
    if (found != names->end()) return module + "." + found->second + tail.substr(leaf);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> KeyMap::theirs(const std::string& name) const {
  const auto [module, tail] = module_of(by_ours_, name);
  if (!module) return std::nullopt;
  if (!module->inside) return module->theirs + tail;
  return translated(module->theirs, tail, {&module->inside->ours_to_theirs, &module->inside->old_spellings});
}

std::optional<std::string> KeyMap::ours(const std::string& name) const {
  const auto [module, tail] = module_of(by_theirs_, name);
  if (!module) return std::nullopt;
  return module->inside ? translated(module->ours, tail, {&module->inside->theirs_to_ours}) : module->ours + tail;
}

}  // namespace easel
