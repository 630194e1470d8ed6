// nn: the layers the networks are made of. Each is a const struct whose constructor binds its tensors by their
// checkpoint names and whose call is pure. B: batch, C: channels, H × W: picture or latent, T: tokens, D: width of a
// token.
//
// Activations of pictures are channels-last in memory (dimensions stay [B, C, H, W]): oneDNN and cuDNN convolve that
// layout without copies, and a [B, H·W, C] token view of it is free.
#pragma once

#include <unordered_map>

#include "easel/tensor.h"
#include "easel/weights.h"

namespace easel {

enum class Bias { kYes, kNo };

// y + Σ up·(down·x)·scale, in y's memory. x: [..., in]; y: [..., out].
Tensor add_changes(Tensor y, const Tensor& x, const std::vector<LowRank>& changes);

// weight [out, in] (or [out, in, 1, 1]), bias [out]. x: [..., in] → [..., out].
struct Linear {
  enum class Form { kPlain, kPacked, kInt8 };  // of the weight: as it is, in the products' layout, in eight bits
  std::vector<LowRank> changes;
  Tensor weight, bias;
  Tensor scales, sums;  // of kInt8
  Form form = Form::kPlain;
  Linear(const Weights& w, int64_t in, int64_t out, Bias has_bias = Bias::kYes);
  // A 1x1 convolution that is applied to tokens as the linear it equals.
  static Linear of_convolution(const Weights& w, int64_t in, int64_t out);
  Tensor operator()(const Tensor& x) const;
  Tensor operator()(const Tensor& x, const Tensor& residual) const;  // with residual [..., out] added
  Tensor geglu(const Tensor& x) const;                               // geglu() of the result: [..., out / 2]
  // One whose results are theirs side by side, of the same x and without a bias. Nullopt where one has LoRAs beside it
  // or its weight a form whose rows cannot be joined.
  static std::optional<Linear> side_by_side(const std::vector<const Linear*>& linears);

 private:
  Linear(const Weights& w, const Shape& shape, Bias has_bias);
};

// What is added to a convolution's results, where the kernels can in the same pass.
struct Added {
  Tensor shift;                // [1 or B, out]: to every pixel
  Tensor residual;             // [B, out, H, W]
  bool may_overwrite = false;  // the residual's memory, with the result
};

struct GroupNorm;

// weight [out, in, kernel, kernel], bias [out], of zeros where the file has none; square kernel.
struct Conv2d {
  // Of the weight: as it is, in the products' layout (of a 1x1 one as a linear's), in that of minimal filtering, of
  // matrix tiles.
  enum class Form { kPlain, kPacked, kLinear, kWinograd, kTiles };
  std::vector<LowRank> changes;
  Tensor weight, bias;
  Form form = Form::kPlain;
  int64_t kernel, stride, padding, out;
  struct Shape2d {
    int64_t in, out, kernel = 3, stride = 1, padding = 1;
    Bias has_bias = Bias::kYes;
  };
  Conv2d(const Weights& w, const Shape2d& shape);
  Tensor operator()(const Tensor& x, const Added& added = {}) const;
  // Of norm.silu(x), where it can without that picture in memory.
  Tensor of_norm_silu(const GroupNorm& norm, const Tensor& x, const Added& added = {}) const;
  // Of x brought to height × width by nearest neighbour.
  Tensor upsampled(const Tensor& x, int64_t height, int64_t width) const;

 private:
  void pack(Form as, const Weights& w);
  Tensor add_low_ranks(Tensor y, const Tensor& x) const;
};

// Bytes of a weight of a network that was built with packed weights, of a file that has it as `stored`.
int64_t packed_bytes(const Shape& weight, at::ScalarType dtype, at::ScalarType stored = at::kFloat);

// Wu & He 2018. x: [B, C, H, W].
struct GroupNorm {
  Tensor weight, bias;
  int64_t groups;
  double eps;
  GroupNorm(const Weights& w, int64_t channels, int64_t groups, double eps);
  Tensor operator()(const Tensor& x) const;
  Tensor silu(const Tensor& x) const;  // SiLU of the norm, in one result
};

struct SumAndNorm {
  Tensor sum, norm;
};

// Ba, Kiros & Hinton 2016, over the last dimension.
struct LayerNorm {
  Tensor weight, bias;
  double eps;
  LayerNorm(const Weights& w, int64_t width, double eps);
  Tensor operator()(const Tensor& x) const;
  // Of linear(x) + residual, beside that sum: one pass over it on a CUDA device. residual: [..., width].
  SumAndNorm of_sum(const Linear& linear, const Tensor& x, const Tensor& residual) const;
};

enum class AttentionMask { kNone, kCausal };

// Softmax attention (Vaswani et al. 2017, eq. 1) of `heads` heads side by side. q: [B, T, C], k and v: [B, S, C] → [B,
// T, C].
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads,
                 AttentionMask mask = AttentionMask::kNone);
// mask: bool, true where attended to, [B, 1, T, S].
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, const Tensor& mask);

// [..., 2·W], value and gate → [..., W]: value·GELU(gate), with erf.
Tensor geglu(const Tensor& x);
Tensor quick_gelu(const Tensor& x);  // x·sigmoid(1.702·x)

// diffusers' get_timestep_embedding: t → [1, width] float32 of sines and cosines (Ho et al. 2020 after Vaswani et al.
// 2017).
Tensor timestep_embedding(double t, int64_t width, bool flip_sin_to_cos, double freq_shift);

// [B, C, H, W] channels-last ↔ [B, H·W, C], without a copy.
Tensor to_tokens(const Tensor& x);
Tensor from_tokens(const Tensor& tokens, int64_t height, int64_t width);

// diffusers' ResnetBlock2D: norm1 → SiLU → conv1 (+ time) → norm2 → SiLU → conv2, plus the (projected) input.
struct ResnetSpec {
  int64_t in, out;
  int64_t time_width = 0;  // 0: no time embedding (VAE)
  int64_t groups;
  double eps;
  double output_scale = 1.0;  // the sum is divided by it
};

// What ResNet blocks make of the time embeddings of a run whose timesteps are known before: of all of them at once, at
// the first call, and each call takes its own rows. For one network and one thread.
class TimeShifts {
 public:
  // embeddings: [S·rows, time_width] after SiLU, `rows` of each of S calls.
  TimeShifts(Tensor embeddings, int64_t rows) : embeddings_(std::move(embeddings)), rows_(rows) {}
  // projection() of the call's embeddings: [rows, out].
  Tensor of(const Linear& projection, int64_t call);

 private:
  Tensor embeddings_;
  int64_t rows_;
  std::unordered_map<const Linear*, Tensor> shifts_;
};

// The time embedding after SiLU, [1 or B, time_width]: a call's own, or one of a run's.
struct TimeEmbedding {
  Tensor own;
  TimeShifts* run = nullptr;  // in place of it
  int64_t call = 0;
  TimeEmbedding(Tensor embedding = {}) : own(std::move(embedding)) {}  // NOLINT: most callers have but the tensor
  TimeEmbedding(TimeShifts& shifts, int64_t which) : run(&shifts), call(which) {}
  Tensor through(const Linear& projection) const {
    return run != nullptr ? run->of(projection, call) : projection(own);
  }
};

struct ResnetBlock {
  GroupNorm norm1;
  Conv2d conv1;
  std::optional<Linear> time_emb_proj;
  GroupNorm norm2;
  Conv2d conv2;
  std::optional<Conv2d> conv_shortcut;  // where in ≠ out
  double output_scale;
  ResnetBlock(const Weights& w, const ResnetSpec& s);
  // x: [B, in, H, W]; time: undefined where time_width is 0 → [B, out, H, W]
  // The result may take the memory of an x that nobody else holds.
  Tensor operator()(Tensor x, const TimeEmbedding& time = {}) const;
};

// Self-attention over the pixels of a picture, added to it: diffusers' Attention with a GroupNorm and a residual
// connection (the attention block of Ho et al. 2020). Published VAEs and google/ddpm-* carry the projections' names
// before diffusers 0.12 (query, key, value, proj_attn); both are read.
struct SpatialAttentionSpec {
  int64_t channels;
  int64_t heads = 1;
  int64_t groups;
  double eps;
  double output_scale = 1.0;  // the sum is divided by it
};

struct SpatialAttention {
  GroupNorm group_norm;
  Linear to_q, to_k, to_v, to_out;
  int64_t heads;
  double output_scale;
  SpatialAttention(const Weights& w, const SpatialAttentionSpec& s);
  Tensor operator()(const Tensor& x) const;  // x: [B, channels, H, W]
};

// Stride-2 convolution. padding 0 means one row and column of zeros at the bottom and right, as in the VAE.
struct Downsample {
  Conv2d conv;
  Downsample(const Weights& w, int64_t channels, int64_t padding);
  Tensor operator()(const Tensor& x) const;
};

// Nearest neighbour to height × width, then a convolution.
struct Upsample {
  Conv2d conv;
  Upsample(const Weights& w, int64_t channels);
  Tensor operator()(const Tensor& x, int64_t height, int64_t width) const;
};

// ---- reading a network's config.json ------------------------------------------------------------------------------

// Reads fields with their type, collecting faults; finish() throws Error(kFile) with all of them, and names fields that
// were never looked at unless they are listed as harmless.
class ConfigReader {
 public:
  ConfigReader(const json& config, std::string where);

  int64_t integer(const char* name, std::optional<int64_t> fallback = {}, int64_t low = 1);
  double number(const char* name, std::optional<double> fallback = {});
  bool flag(const char* name, bool fallback);
  std::string word(const char* name, const std::string& fallback, const std::vector<std::string>& supported);
  std::vector<std::string> words(const char* name, const std::vector<std::string>& supported);
  // A list of `count` integers, or one integer that stands for all of them.
  std::vector<int64_t> integers(const char* name, std::size_t count, std::optional<int64_t> fallback = {});
  std::vector<int64_t> list(const char* name);
  // Whole numbers from 0, one list of counts[i] for each i. The file holds one number for all of them, or an entry for
  // each i that is a list or one number for all of its counts[i]. Where counts[i] is 0 any entry will do: nothing is
  // read there.
  std::vector<std::vector<int64_t>> integer_lists(const char* name, const std::vector<std::size_t>& counts,
                                                  std::optional<int64_t> fallback = {});
  bool given(const char* name);          // present and not null
  bool given_as_null(const char* name);  // present and null, where null is a choice and not the default

  // A field that only changes the network when it differs from `off` (or from null): anything else is refused by name.
  void only(const char* name, const json& off);
  void ignore(std::initializer_list<const char*> names);
  void fault(const char* name, const std::string& expected);
  void finish() const;

 private:
  const json* find(const char* name);

  const json& config_;
  std::string where_;
  std::set<std::string> seen_;
  std::vector<std::string> faults_;
};

}  // namespace easel
