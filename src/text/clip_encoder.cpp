#include "easel/nn.h"
#include "easel/text.h"

namespace easel {

// transformers' CLIPEncoderLayer: pre-norm attention and MLP.
struct ClipLayer {
  LayerNorm layer_norm1;
  Linear q_proj, k_proj, v_proj, out_proj;
  LayerNorm layer_norm2;
  Linear fc1, fc2;
  int64_t heads;
  bool quick;

  ClipLayer(const Weights& w, const ClipTextSpec& s)
      : layer_norm1(w / "layer_norm1", s.hidden_size, s.layer_norm_eps),
        q_proj(w / "self_attn" / "q_proj", s.hidden_size, s.hidden_size),
        k_proj(w / "self_attn" / "k_proj", s.hidden_size, s.hidden_size),
        v_proj(w / "self_attn" / "v_proj", s.hidden_size, s.hidden_size),
        out_proj(w / "self_attn" / "out_proj", s.hidden_size, s.hidden_size),
        layer_norm2(w / "layer_norm2", s.hidden_size, s.layer_norm_eps),
        fc1(w / "mlp" / "fc1", s.hidden_size, s.intermediate_size),
        fc2(w / "mlp" / "fc2", s.intermediate_size, s.hidden_size),
        heads(s.num_attention_heads),
        quick(s.hidden_act == "quick_gelu") {}

  // x: [B, T, hidden_size]; mask: [B, 1, T, T] bool, undefined: causal. Padding is not masked: the reference pipelines
  // pass no attention mask.
  Tensor operator()(Tensor x, const Tensor& mask) const {
    const Tensor normed = layer_norm1(x);
    const Tensor q = q_proj(normed), k = k_proj(normed), v = v_proj(normed);
    x = x +
        out_proj(mask.defined() ? attention(q, k, v, heads, mask) : attention(q, k, v, heads, AttentionMask::kCausal));
    const Tensor inner = fc1(layer_norm2(x));
    return x + fc2(quick ? quick_gelu(inner) : at::gelu(inner));
  }
};

namespace {

bool is_with_projection(const json& file) {
  const auto names = file.find("architectures");
  return names != file.end() && names->is_array() && !names->empty() && names->front() == "CLIPTextModelWithProjection";
}

}  // namespace

ClipTextSpec ClipTextSpec::from_json(const json& file, const std::string& where) {
  ConfigReader config(file, where);
  ClipTextSpec spec;
  spec.vocab_size = config.integer("vocab_size", spec.vocab_size);
  spec.hidden_size = config.integer("hidden_size");
  spec.intermediate_size = config.integer("intermediate_size");
  spec.num_hidden_layers = config.integer("num_hidden_layers");
  spec.num_attention_heads = config.integer("num_attention_heads");
  spec.max_position_embeddings = config.integer("max_position_embeddings", spec.max_position_embeddings);
  spec.hidden_act = config.word("hidden_act", "quick_gelu", {"quick_gelu", "gelu"});
  spec.layer_norm_eps = config.number("layer_norm_eps", 1e-5);
  if (spec.hidden_size % spec.num_attention_heads != 0)
    config.fault("num_attention_heads", "it must divide hidden_size");
  if (is_with_projection(file)) spec.projection_dim = config.integer("projection_dim", 512);
  // Ids of special tokens are the tokenizer's: old files say 0, 2 and 1 here. The rest is about training and file
  // history.
  config.ignore({"architectures", "attention_dropout", "bos_token_id", "dropout", "dtype", "eos_token_id",
                 "initializer_factor", "initializer_range", "model_type", "pad_token_id", "projection_dim",
                 "torch_dtype", "transformers_version"});
  config.finish();
  return spec;
}

ClipTextEncoder::ClipTextEncoder(const Weights& w, const ClipTextSpec& spec)
    : spec_(spec),
      token_embedding_(
          w.get("embeddings.token_embedding.weight", {spec.vocab_size, spec.hidden_size}, Weights::Halves::kKept)),
      position_embedding_(
          w.get("embeddings.position_embedding.weight", {spec.max_position_embeddings, spec.hidden_size})),
      final_norm_weight_(w.get("final_layer_norm.weight", {spec.hidden_size})),
      final_norm_bias_(w.get("final_layer_norm.bias", {spec.hidden_size})) {
  if (spec.projection_dim > 0)
    text_projection_ = w.get("text_projection.weight", {spec.projection_dim, spec.hidden_size});
  for (int64_t i = 0; i < spec.num_hidden_layers; ++i) layers_.emplace_back(w / "encoder" / "layers" / i, spec);
}

ClipTextEncoder::~ClipTextEncoder() = default;
ClipTextEncoder::ClipTextEncoder(ClipTextEncoder&&) noexcept = default;

namespace {

// Causal, and of the tokens before only those that are seen: [B, 1, T, T].
Tensor causal_mask(const Tensor& seen) {
  if (!seen.defined()) return {};
  const int64_t length = seen.size(1);
  const Tensor causal = at::ones({length, length}, seen.options()).tril();
  return causal.logical_and(seen.view({-1, 1, 1, length}));
}

}  // namespace

Tensor ClipTextEncoder::embedded(const Tensor& ids, const std::vector<TextExtras::Vectors>& vectors) const {
  Tensor x = at::embedding(token_embedding_, ids).to(position_embedding_.scalar_type());
  for (const TextExtras::Vectors& at : vectors) x[at.row].narrow(0, at.position, at.vectors.size(0)).copy_(at.vectors);
  return x + position_embedding_.narrow(0, 0, ids.size(1));
}

EncodedText ClipTextEncoder::operator()(const Tensor& ids, int64_t clip_skip, StateNorm norm, int64_t eos_id,
                                        const TextExtras& extras) const {
  const int64_t count = spec_.num_hidden_layers;
  if (clip_skip < 1 || clip_skip > count)
    throw Error(ErrorKind::kUsage, "--clip-skip " + std::to_string(clip_skip) + ": this text encoder has layers 1 to " +
                                       std::to_string(count));
  const auto taken = static_cast<std::size_t>(count - clip_skip);
  const std::size_t needed = text_projection_.defined() ? layers_.size() : taken + 1;
  EncodedText text;
  Tensor x = embedded(ids, extras.vectors);
  const Tensor mask = causal_mask(extras.seen);
  for (std::size_t i = 0; i < needed; ++i) {
    x = layers_[i](x, mask);
    if (i == taken) text.states = norm == StateNorm::kFinal ? normed(x) : x;
  }
  if (text_projection_.defined()) text.pooled = pooled(x, ids, eos_id);
  return text;
}

Tensor ClipTextEncoder::normed(const Tensor& x) const {
  return at::layer_norm(x, {spec_.hidden_size}, final_norm_weight_, final_norm_bias_, spec_.layer_norm_eps);
}

// The first end token: padding may repeat it. transformers takes the largest id instead where an old config says
// eos_token_id 2; that is the same token, until tokens are added behind it.
Tensor ClipTextEncoder::pooled(const Tensor& last_layer, const Tensor& ids, int64_t eos_id) const {
  const Tensor at_end = ids.eq(eos_id).to(at::kInt).argmax(1);  // [B]
  const Tensor index = at_end.view({-1, 1, 1}).expand({-1, 1, spec_.hidden_size});
  return at::linear(normed(last_layer.gather(1, index).squeeze(1)), text_projection_);
}

}  // namespace easel
