// unet: the U-Nets that predict noise. UNet is the conditional one of latent diffusion (diffusers'
// UNet2DConditionModel; Rombach et al. 2022, arXiv 2112.10752; with SDXL's conditioning, Podell et al. 2023, arXiv
// 2307.01952); UNet2D the unconditional one of pixels (UNet2DModel; Ho et al. 2020, arXiv 2006.11239). B: batch, C:
// channels, H × W: latent or picture size (any, odd ones too), T: text tokens, D: width of the text's hidden states.
#pragma once

#include "easel/nn.h"
#include "easel/step_graph.h"

namespace easel {

// ---- UNet2DConditionModel -----------------------------------------------------------------------------------------

// One resolution of the U-Net.
struct UNetLevel {
  int64_t channels;
  int64_t layers;  // ResNet blocks down; one more up
  int64_t heads;   // of its attention; channels / heads is a head's width
  // Transformer blocks behind each ResNet block of the way down (`layers` of them) and up (`layers` + 1); empty: no
  // attention.
  std::vector<int64_t> down_transformers, up_transformers;

  bool has_attention() const { return !down_transformers.empty() || !up_transformers.empty(); }
};

// mid_block_type: null, UNetMidBlock2D (one ResNet block: SSD-1B, Segmind-Vega), UNetMidBlock2DCrossAttn.
enum class UNetMidBlock { kNone, kResnet, kCrossAttention };

// addition_embed_type "text_time": pooled text and sinusoids of whole numbers, side by side, are added to the time
// vector.
struct TextTimeSpec {
  int64_t time_embed_dim;  // sinusoids of one number: 256
  int64_t input_width;  // projection_class_embeddings_input_dim: 1280 + 6·256 in SDXL's base, + 5·256 in its refiner
};

// unet/config.json. levels[0] is the finest.
struct UNetSpec {
  int64_t in_channels = 4;  // 9: inpainting (latent, mask, masked picture's latent)
  int64_t out_channels = 4;
  int64_t sample_height = 64, sample_width = 64;  // the latent size it was trained at
  std::vector<UNetLevel> levels;
  UNetMidBlock mid_block = UNetMidBlock::kCrossAttention;
  int64_t mid_transformers = 1;  // transformer blocks of the middle's attention
  int64_t cross_attention_dim = 768;
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;
  bool use_linear_projection = false;
  bool center_input_sample = false;
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
  int64_t downsample_padding = 1;
  double mid_block_scale_factor = 1;
  std::optional<TextTimeSpec> text_time;
  int64_t time_cond_proj_dim = 0;  // LCM's U-Nets (Luo et al. 2023, arXiv 2310.04378): width of the guidance embedding

  int64_t time_width() const { return 4 * levels.front().channels; }
  int64_t skips() const;  // connections from the way down to the way up: 12 in Stable Diffusion 1.x
  // How many time ids stand beside a pooled text of that width: SDXL 6, refiner 5. Needs text_time; 0: they do not fit.
  int64_t time_id_count(int64_t pooled_width) const;

  // Throws Error(kFile) with every fault: missing and misshapen fields, and by name those of other kinds of U-Net.
  static UNetSpec from_json(const json& config, const std::string& where);
};

// What some U-Nets take beside the text.
struct AddedConditions {
  // Of text_time U-Nets. [B, P]: the pooled text; [B, N] float32 on the CPU: SDXL's original size, crop and target
  // size, (height, width) each; the refiner's original size, crop and aesthetic score.
  Tensor text_embeds, time_ids;
  // Of U-Nets with time_cond_proj_dim, which were distilled with guidance built in: the guidance scale.
  std::optional<double> guidance_scale;
};

// What ControlNets add to a U-Net's way down: one tensor for each skip connection, in the order in which they arise,
// and one for the middle.
struct ControlResiduals {
  std::vector<Tensor> down;  // [B, C, H, W] each
  Tensor mid;
};

// What DeepCache (Ma et al. 2024, arXiv 2312.00858) keeps from one step to the next: the way up's activation before its
// layers that see the `branch` + 1 first skip connections. A call that reuses it computes only those layers, and on the
// way down the ones before these skips.
struct DeepFeature {
  int64_t branch = 0;
  bool is_reused = false;  // else the call computes everything and puts x here
  Tensor x;                // [B, C, H, W]
};

// The keys and values that a network's cross-attentions make of one text. They are the same at every step: who keeps
// them between the calls has them computed once. Belongs to one network and one thread.
class TextProjections {
 public:
  struct KeysValues {
    Tensor keys, values;  // [B, T, width of the layer] each
    int64_t silent = 0;   // so many of the first B have values of zero alone: what attends to them gets zero
  };
  // Begins a call: forgets what belongs to another text.
  void begin(const Tensor& context);
  // Of one layer of the network, told apart by its address; undefined until the layer puts them there.
  KeysValues& of(const void* layer) { return layers_[layer]; }
  // How many texts there have been: with another one the kept tensors lie elsewhere.
  int64_t texts() const { return texts_; }

 private:
  Tensor context_;
  int64_t texts_ = 0;
  std::unordered_map<const void*, KeysValues> layers_;
};

// The time embeddings of one picture or pack, whose timesteps are known before. Belongs to one network and one thread.
class TimeProjections {
 public:
  explicit TimeProjections(std::vector<double> timesteps);
  // Of a call at t beside `added`; nothing where the call has to compute its own: at a timestep that was not named, or
  // when the conditions are no longer those of the calls before. `embed` makes the embeddings of all the timesteps: [S,
  // time_width] or, beside conditions of B rows, [S·B, time_width].
  std::optional<TimeEmbedding> at(double t, const AddedConditions& added,
                                  const std::function<Tensor(const std::vector<double>&)>& embed);

 private:
  std::vector<double> timesteps_;
  AddedConditions added_;
  std::optional<TimeShifts> shifts_;
};

// What is kept from one call of a network to the next, each of it or none.
struct BetweenCalls {
  DeepFeature* deep = nullptr;
  TextProjections* texts = nullptr;
  TimeProjections* times = nullptr;  // not used within graphs
  StepGraphs* graphs = nullptr;  // for calls with `texts`; not to be used after the network or the projections are gone
};

// Immutable once built: calls may run concurrently.
class UNet {
 public:
  UNet(const Weights& w, const UNetSpec& spec);
  ~UNet();
  UNet(UNet&&) noexcept;

  // sample: [B, in_channels, H, W]; t: the training timestep, fractional for some schedules; context: [B, T, D] →
  // [B, out_channels, H, W], channels-last. Tensors in the weights' dtype and on their device.
  Tensor operator()(const Tensor& sample, double t, const Tensor& context, const AddedConditions& added = {},
                    const ControlResiduals* control = nullptr, const BetweenCalls& kept = {}) const;

  const UNetSpec& spec() const { return spec_; }

 private:
  struct Network;
  UNetSpec spec_;
  std::unique_ptr<const Network> network_;
};

// ---- UNet2DModel --------------------------------------------------------------------------------------------------

struct UNet2DLevel {
  int64_t channels;
  bool down_attention, up_attention;  // AttnDownBlock2D, AttnUpBlock2D
};

// config.json of a DDPM (google/ddpm-*). levels[0] is the finest.
struct UNet2DSpec {
  int64_t in_channels = 3;
  int64_t out_channels = 3;                       // twice in_channels where the variance is learned
  int64_t sample_height = 32, sample_width = 32;  // pixels
  std::vector<UNet2DLevel> levels;
  int64_t layers_per_block = 2;                   // ResNet blocks down; one more up
  std::optional<int64_t> attention_head_dim = 8;  // a head's width, truly; null: one head
  int64_t norm_num_groups = 32;
  int64_t attn_norm_num_groups = 32;  // of the middle's attention
  double norm_eps = 1e-5;
  bool mid_block = true;
  bool mid_attention = true;  // add_attention
  double mid_block_scale_factor = 1;
  bool center_input_sample = false;
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
  int64_t downsample_padding = 1;

  int64_t time_width() const { return 4 * levels.front().channels; }

  // Throws Error(kFile) with every fault, as UNetSpec::from_json.
  static UNet2DSpec from_json(const json& config, const std::string& where);
};

// Immutable once built: calls may run concurrently.
class UNet2D {
 public:
  UNet2D(const Weights& w, const UNet2DSpec& spec);
  ~UNet2D();
  UNet2D(UNet2D&&) noexcept;

  // sample: [B, in_channels, H, W]; t: the training timestep → [B, out_channels, H, W], channels-last: what the
  // scheduler's prediction_type says, and behind it the variance where it is learned.
  Tensor operator()(const Tensor& sample, double t) const;

  const UNet2DSpec& spec() const { return spec_; }

 private:
  struct Network;
  UNet2DSpec spec_;
  std::unique_ptr<const Network> network_;
};

}  // namespace easel
