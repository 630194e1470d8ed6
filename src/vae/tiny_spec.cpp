// AutoencoderTiny's config: read from its file, or from its tensors where there is none.
#include "vae/tiny_spec.h"

#include <algorithm>

namespace easel {

namespace {

constexpr const char* kClass = "AutoencoderTiny";

std::vector<int64_t> list_or(ConfigReader& config, const char* name, std::vector<int64_t> fallback) {
  return config.given(name) ? config.list(name) : std::move(fallback);
}

// The one width of all levels, each of which has its number of blocks.
int64_t width_of(ConfigReader& config, const char* name, const std::vector<int64_t>& channels, const char* blocks_name,
                 std::size_t blocks) {
  if (blocks != channels.size()) config.fault(blocks_name, std::string("expected as many as ") + name);
  // AutoencoderTiny's convolutions between two levels have the next one's width on both sides.
  const bool is_even = std::all_of(channels.begin(), channels.end(), [&](int64_t c) { return c == channels.front(); });
  if (!is_even) config.fault(name, "expected the same number for all levels");
  return channels.front();
}

}  // namespace

bool is_tiny_vae(const json& config) {
  if (!config.is_object()) return false;
  const auto name = config.find("_class_name");
  return name != config.end() && *name == kClass;
}

VaeSpec tiny_spec_from_json(const json& file, const std::string& where) {
  ConfigReader config(file, where);
  const std::vector<int64_t> kWidths(4, 64);
  VaeSpec spec;
  TinyVaeSpec& tiny = spec.tiny.emplace();
  spec.in_channels = config.integer("in_channels", 3);
  spec.out_channels = config.integer("out_channels", 3);
  spec.latent_channels = config.integer("latent_channels", 4);
  const std::vector<int64_t> encoder = list_or(config, "encoder_block_out_channels", kWidths);
  spec.block_out_channels = list_or(config, "decoder_block_out_channels", kWidths);
  tiny.num_encoder_blocks = list_or(config, "num_encoder_blocks", tiny.num_encoder_blocks);
  tiny.num_decoder_blocks = list_or(config, "num_decoder_blocks", tiny.num_decoder_blocks);
  spec.scaling_factor = config.number("scaling_factor", 1.0);
  spec.shift_factor = config.number("shift_factor", 0.0);
  spec.force_upcast = false;  // diffusers sets it so, whatever the file says

  tiny.encoder_channels =
      width_of(config, "encoder_block_out_channels", encoder, "num_encoder_blocks", tiny.num_encoder_blocks.size());
  tiny.decoder_channels = width_of(config, "decoder_block_out_channels", spec.block_out_channels, "num_decoder_blocks",
                                   tiny.num_decoder_blocks.size());
  if (encoder.size() != spec.block_out_channels.size())
    config.fault("encoder_block_out_channels", "expected as many as decoder_block_out_channels");
  if (!(spec.scaling_factor > 0)) config.fault("scaling_factor", "expected a number above 0");
  config.only("act_fn", "relu");
  config.only("upsample_fn", "nearest");
  config.only("upsampling_scaling_factor", 2);
  // latent_magnitude and latent_shift are of latents stored in eight bits, which neither decode nor encode does;
  // diffusers writes the decoder's widths a second time as block_out_channels.
  config.ignore({"latent_magnitude", "latent_shift", "block_out_channels", "force_upcast"});
  config.finish();
  return spec;
}

// ---- from tensors -------------------------------------------------------------------------------------------------

namespace {

// What the names of one network's `layers` say: convolutions, and the blocks behind each of them.
struct TinyLayers {
  std::vector<int64_t> blocks;  // behind every convolution but the last
  Shape first, last;            // weights of the first and the last convolution
};

std::optional<TinyLayers> layers_of(const WeightSource& tensors, const std::string& prefix) {
  constexpr int64_t kGap = 2;  // numbers without tensors in a row at the most: an activation, an nn.Upsample
  TinyLayers layers;
  for (int64_t n = 0, gap = 0; gap < kGap; ++n) {
    const std::string layer = prefix + std::to_string(n) + ".";
    const auto weight = tensors.info(layer + "weight");
    const bool is_block = tensors.info(layer + "conv.0.weight").has_value();
    gap = weight || is_block ? 0 : gap + 1;
    if (weight && weight->shape.size() != 4) return std::nullopt;
    if (weight) {
      (layers.blocks.empty() ? layers.first : layers.last) = weight->shape;
      layers.blocks.push_back(0);
    } else if (is_block && !layers.blocks.empty()) {
      ++layers.blocks.back();
    }
  }
  if (layers.blocks.size() < 2) return std::nullopt;
  layers.blocks.pop_back();
  return layers;
}

}  // namespace

std::optional<json> tiny_vae_config(const WeightSource& tensors) {
  const auto decoder = layers_of(tensors, "decoder.layers."), encoder = layers_of(tensors, "encoder.layers.");
  if (!decoder) return std::nullopt;
  const std::size_t levels = decoder->blocks.size();
  json config = {{"_class_name", kClass},
                 {"out_channels", decoder->last[0]},
                 {"latent_channels", decoder->first[1]},
                 {"decoder_block_out_channels", std::vector<int64_t>(levels, decoder->first[0])},
                 {"num_decoder_blocks", decoder->blocks}};
  // A decoder by itself: the numbers that an encoder like it would have.
  config["in_channels"] = encoder ? encoder->first[1] : decoder->last[0];
  config["num_encoder_blocks"] =
      encoder ? encoder->blocks : std::vector<int64_t>(decoder->blocks.rbegin(), decoder->blocks.rend());
  config["encoder_block_out_channels"] =
      std::vector<int64_t>(encoder ? encoder->blocks.size() : levels, encoder ? encoder->first[0] : decoder->first[0]);
  return config;
}

}  // namespace easel
