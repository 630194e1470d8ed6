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

  Tensor operator()(Tensor x) const {  // [B, T, hidden_size]
    const Tensor normed = layer_norm1(x);
    // Causal, and padding is not masked: the reference pipelines pass no attention mask.
    x = x + out_proj(attention(q_proj(normed), k_proj(normed), v_proj(normed), heads, Mask::kCausal));
    const Tensor inner = fc1(layer_norm2(x));
    return x + fc2(quick ? quick_gelu(inner) : at::gelu(inner));
  }
};

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
      token_embedding_(w.get("embeddings.token_embedding.weight", {spec.vocab_size, spec.hidden_size})),
      position_embedding_(
          w.get("embeddings.position_embedding.weight", {spec.max_position_embeddings, spec.hidden_size})),
      final_norm_weight_(w.get("final_layer_norm.weight", {spec.hidden_size})),
      final_norm_bias_(w.get("final_layer_norm.bias", {spec.hidden_size})) {
  for (int64_t i = 0; i < spec.num_hidden_layers; ++i) layers_.emplace_back(w / "encoder" / "layers" / i, spec);
}

ClipTextEncoder::~ClipTextEncoder() = default;
ClipTextEncoder::ClipTextEncoder(ClipTextEncoder&&) noexcept = default;

Tensor ClipTextEncoder::operator()(const Tensor& ids, int64_t clip_skip) const {
  if (clip_skip < 1 || clip_skip > spec_.num_hidden_layers)
    throw Error(ErrorKind::kUsage, "--clip-skip " + std::to_string(clip_skip) + ": this text encoder has layers 1 to " +
                                       std::to_string(spec_.num_hidden_layers));
  const auto used = static_cast<std::size_t>(spec_.num_hidden_layers - clip_skip + 1);
  Tensor x = at::embedding(token_embedding_, ids) + position_embedding_.narrow(0, 0, ids.size(1));
  for (std::size_t i = 0; i < used; ++i) x = layers_[i](x);
  return at::layer_norm(x, {spec_.hidden_size}, final_norm_weight_, final_norm_bias_, spec_.layer_norm_eps);
}

}  // namespace easel
