#include "easel/controlnet.h"

#include <cmath>

#include "unet/condition_embedding.h"

namespace easel {

namespace {

// diffusers' ControlNetConditioningEmbedding.
struct HintEmbedding {
  Conv2d conv_in;
  std::vector<Conv2d> blocks;
  Conv2d conv_out;

  HintEmbedding(const Weights& w, const ControlNetSpec& s)
      : conv_in(w / "conv_in", {.in = s.conditioning_channels, .out = s.hint_channels.front()}),
        conv_out(w / "conv_out", {.in = s.hint_channels.back(), .out = s.unet.levels.front().channels}) {
    for (std::size_t i = 0; i + 1 < s.hint_channels.size(); ++i) {
      const int64_t in = s.hint_channels[i], out = s.hint_channels[i + 1], at = static_cast<int64_t>(2 * i);
      blocks.emplace_back(w / "blocks" / at, Conv2d::Shape2d{.in = in, .out = in});
      blocks.emplace_back(w / "blocks" / (at + 1), Conv2d::Shape2d{.in = in, .out = out, .stride = 2});
    }
  }

  Tensor operator()(Tensor x) const {
    x = at::silu(conv_in(x.contiguous(at::MemoryFormat::ChannelsLast)));
    for (const Conv2d& block : blocks) x = at::silu(block(x));
    return conv_out(x);
  }
};

Conv2d zero_convolution(const Weights& w, int64_t channels) {
  return Conv2d(w, {.in = channels, .out = channels, .kernel = 1, .padding = 0});
}

// The channels of the skips, in the order in which they arise.
std::vector<int64_t> skip_channels(const UNetSpec& s) {
  std::vector<int64_t> channels = {s.levels.front().channels};
  for (std::size_t i = 0; i < s.levels.size(); ++i) {
    const int64_t count = s.levels[i].layers + (i + 1 < s.levels.size() ? 1 : 0);
    channels.insert(channels.end(), static_cast<std::size_t>(count), s.levels[i].channels);
  }
  return channels;
}

Tensor mean_over_picture(const Tensor& x) { return x.mean({2, 3}, /*keepdim=*/true); }

}  // namespace

ControlNetSpec ControlNetSpec::from_json(const json& file, const std::string& where) {
  ControlNetSpec spec;
  if (!file.is_object()) throw Error(ErrorKind::kFile, where + ": expected a JSON object of network settings");
  json own = json::object(), unet = file;
  for (const char* name : {"conditioning_channels", "conditioning_embedding_out_channels",
                           "controlnet_conditioning_channel_order", "global_pool_conditions"}) {
    if (file.contains(name)) own[name] = file[name];
    unet.erase(name);
  }
  ConfigReader config(own, where);
  spec.conditioning_channels = config.integer("conditioning_channels", 3);
  if (config.given("conditioning_embedding_out_channels"))
    spec.hint_channels = config.list("conditioning_embedding_out_channels");
  spec.bgr = config.word("controlnet_conditioning_channel_order", "rgb", {"rgb", "bgr"}) == "bgr";
  spec.global_pool_conditions = config.flag("global_pool_conditions", false);
  config.finish();
  // The rest is a U-Net's, whose way up is as its way down.
  if (!unet.contains("cross_attention_dim")) unet["cross_attention_dim"] = 1280;  // ControlNetModel's default
  json up = json::array();
  for (const json& down : file.value("down_block_types", json::array()))
    up.insert(up.begin(), down == "CrossAttnDownBlock2D" ? "CrossAttnUpBlock2D" : "UpBlock2D");
  unet["up_block_types"] = up;
  spec.unet = UNetSpec::from_json(unet, where);
  return spec;
}

struct ControlNet::Network {
  ConditionEmbedding condition;
  Conv2d conv_in;
  HintEmbedding hint;
  std::vector<DownBlock> down_blocks;
  MidBlock mid_block;
  std::vector<Conv2d> controlnet_down_blocks;
  Conv2d controlnet_mid_block;

  Network(const Weights& w, const ControlNetSpec& s, const BodySpec& body)
      : condition(w, s.unet),
        conv_in(w / "conv_in", {.in = body.in_channels, .out = body.levels.front().channels}),
        hint(w / "controlnet_cond_embedding", s),
        mid_block(w / "mid_block", body),
        controlnet_mid_block(zero_convolution(w / "controlnet_mid_block", body.levels.back().channels)) {
    for (std::size_t i = 0; i < body.levels.size(); ++i)
      down_blocks.emplace_back(w / "down_blocks" / static_cast<int64_t>(i), body, i);
    const std::vector<int64_t> channels = skip_channels(s.unet);
    for (std::size_t i = 0; i < channels.size(); ++i)
      controlnet_down_blocks.push_back(
          zero_convolution(w / "controlnet_down_blocks" / static_cast<int64_t>(i), channels[i]));
  }
};

ControlNet::ControlNet(const Weights& w, const ControlNetSpec& spec)
    : spec_(spec), network_(std::make_unique<Network>(w, spec, body_spec(spec.unet))) {}
ControlNet::~ControlNet() = default;
ControlNet::ControlNet(ControlNet&&) noexcept = default;

Tensor ControlNet::hint(const Tensor& picture) const {
  TORCH_CHECK(picture.dim() == 4 && picture.size(1) == spec_.conditioning_channels, "control picture ",
              picture.sizes());
  return network_->hint(spec_.bgr ? picture.flip({1}) : picture);
}

ControlResiduals ControlNet::operator()(const Tensor& sample, double t, const Tensor& context,
                                        const AddedConditions& added, const Tensor& hint, double strength,
                                        bool guess) const {
  check_arguments(spec_.unet, sample, context, added);
  const Tensor time = network_->condition(spec_.unet, sample, {t}, added);
  Tensor x = network_->conv_in(sample.contiguous(at::MemoryFormat::ChannelsLast)) + hint;
  std::vector<Tensor> skips = {x};
  for (const DownBlock& block : network_->down_blocks) x = block(x, time, {context}, skips);
  x = network_->mid_block(x, time, {context});

  const bool rising = guess && !spec_.global_pool_conditions;
  const auto scale = [&](std::size_t i) {  // logspace(−1, 0) over the skips and the middle
    return rising ? strength * std::pow(10, -1 + static_cast<double>(i) / static_cast<double>(skips.size())) : strength;
  };
  const auto finished = [&](const Tensor& residual, std::size_t i) {
    const Tensor scaled = residual * scale(i);
    return spec_.global_pool_conditions ? mean_over_picture(scaled) : scaled;
  };
  ControlResiduals out;
  for (std::size_t i = 0; i < skips.size(); ++i)
    out.down.push_back(finished(network_->controlnet_down_blocks[i](skips[i]), i));
  out.mid = finished(network_->controlnet_mid_block(x), skips.size());
  return out;
}

}  // namespace easel
