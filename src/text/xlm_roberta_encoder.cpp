#include "easel/nn.h"
#include "easel/text.h"

namespace easel {

// transformers' XLMRobertaLayer: attention and MLP, each normed after its residual sum.
struct XlmRobertaLayer {
  Linear query, key, value, attention_output;
  LayerNorm attention_norm;
  Linear intermediate, output;
  LayerNorm output_norm;
  int64_t heads;

  XlmRobertaLayer(const Weights& w, const XlmRobertaSpec& s)
      : query(w / "attention" / "self" / "query", s.hidden_size, s.hidden_size),
        key(w / "attention" / "self" / "key", s.hidden_size, s.hidden_size),
        value(w / "attention" / "self" / "value", s.hidden_size, s.hidden_size),
        attention_output(w / "attention" / "output" / "dense", s.hidden_size, s.hidden_size),
        attention_norm(w / "attention" / "output" / "LayerNorm", s.hidden_size, s.layer_norm_eps),
        intermediate(w / "intermediate" / "dense", s.hidden_size, s.intermediate_size),
        output(w / "output" / "dense", s.intermediate_size, s.hidden_size),
        output_norm(w / "output" / "LayerNorm", s.hidden_size, s.layer_norm_eps),
        heads(s.num_attention_heads) {}

  // x: [B, T, hidden_size]; mask: [B, 1, 1, T], true where a key is seen, or undefined.
  Tensor operator()(const Tensor& x, const std::optional<Tensor>& mask) const {
    const auto by_head = [&](const Tensor& t) { return t.unflatten(-1, {heads, -1}).transpose(1, 2); };
    const Tensor seen = at::scaled_dot_product_attention(by_head(query(x)), by_head(key(x)), by_head(value(x)), mask);
    const Tensor h = attention_norm(x + attention_output(seen.transpose(1, 2).flatten(2)));
    return output_norm(h + output(at::gelu(intermediate(h))));
  }
};

XlmRobertaSpec XlmRobertaSpec::from_json(const json& file, const std::string& where) {
  ConfigReader config(file, where);
  XlmRobertaSpec spec;
  spec.vocab_size = config.integer("vocab_size");
  spec.hidden_size = config.integer("hidden_size");
  spec.intermediate_size = config.integer("intermediate_size");
  spec.num_hidden_layers = config.integer("num_hidden_layers");
  spec.num_attention_heads = config.integer("num_attention_heads");
  spec.max_position_embeddings = config.integer("max_position_embeddings", 512);
  spec.type_vocab_size = config.integer("type_vocab_size", 2);
  spec.pad_token_id = config.integer("pad_token_id", 1, 0);
  spec.layer_norm_eps = config.number("layer_norm_eps", 1e-12);
  spec.project_dim = config.integer("project_dim", 512);
  spec.use_attention_mask = config.flag("use_attention_mask", true);
  spec.has_pre_transformation = config.flag("has_pre_transformation", false);
  if (spec.hidden_size % spec.num_attention_heads != 0)
    config.fault("num_attention_heads", "it must divide hidden_size");
  if (spec.num_hidden_layers < 2 && spec.has_pre_transformation)
    config.fault("has_pre_transformation", "it takes the layer before the last, so there must be two");
  config.word("hidden_act", "gelu", {"gelu"});
  config.word("position_embedding_type", "absolute", {"absolute"});
  config.only("is_decoder", false);
  // About training, teachers and file history.
  config.ignore({"add_cross_attention",
                 "architectures",
                 "attention_probs_dropout_prob",
                 "bos_token_id",
                 "classifier_dropout",
                 "direct_kd",
                 "dtype",
                 "eos_token_id",
                 "hidden_dropout_prob",
                 "initializer_factor",
                 "initializer_range",
                 "learn_encoder",
                 "model_type",
                 "numDims",
                 "numLayers",
                 "output_past",
                 "pooler_fn",
                 "pooler_type",
                 "teacherDimensions",
                 "tie_word_embeddings",
                 "torch_dtype",
                 "transformers_version",
                 "use_cache"});
  config.finish();
  return spec;
}

namespace {

std::vector<Tensor> weight_and_bias(const Weights& w, const Shape& shape) {
  return {w.get("weight", shape), w.get("bias", {shape.front()})};
}

}  // namespace

XlmRobertaEncoder::XlmRobertaEncoder(const Weights& w, const XlmRobertaSpec& spec) : spec_(spec) {
  const Weights embeddings = w / "roberta" / "embeddings";
  const int64_t width = spec.hidden_size;
  word_embeddings_ = embeddings.get("word_embeddings.weight", {spec.vocab_size, width}, Weights::Halves::kKept);
  position_embeddings_ = embeddings.get("position_embeddings.weight", {spec.max_position_embeddings, width});
  token_type_embeddings_ = embeddings.get("token_type_embeddings.weight", {spec.type_vocab_size, width});
  norm_ = weight_and_bias(embeddings / "LayerNorm", {width});
  const int64_t unused = spec.has_pre_transformation ? 1 : 0;
  for (int64_t i = 0; i < spec.num_hidden_layers; ++i) {
    XlmRobertaLayer layer(w / "roberta" / "encoder" / "layer" / i, spec);  // bound in any case: its shapes are checked
    if (i < spec.num_hidden_layers - unused) layers_.push_back(std::move(layer));
  }
  transformation_ = weight_and_bias(w / "transformation", {spec.project_dim, width});
  if (spec.has_pre_transformation) {
    transformation_ = weight_and_bias(w / "transformation_pre", {spec.project_dim, width});
    pre_norm_ = weight_and_bias(w / "pre_LN", {width});
  }
}

XlmRobertaEncoder::~XlmRobertaEncoder() = default;
XlmRobertaEncoder::XlmRobertaEncoder(XlmRobertaEncoder&&) noexcept = default;

Tensor XlmRobertaEncoder::operator()(const Tensor& ids, const Tensor& seen) const {
  const auto normed = [&](const Tensor& x, const std::vector<Tensor>& norm) {
    return at::layer_norm(x, {spec_.hidden_size}, norm[0], norm[1], spec_.layer_norm_eps);
  };
  const Tensor is_text = ids.ne(spec_.pad_token_id);
  // Padding keeps position pad_token_id, text counts on from it (fairseq's make_positions).
  const Tensor positions = at::cumsum(is_text, 1) * is_text + spec_.pad_token_id;
  Tensor x = at::embedding(word_embeddings_, ids).to(position_embeddings_.scalar_type());
  x = x + token_type_embeddings_[0] + at::embedding(position_embeddings_, positions);
  x = normed(x, norm_);
  std::optional<Tensor> mask;
  if (spec_.use_attention_mask) mask = is_text.unsqueeze(1).unsqueeze(1);
  if (seen.defined()) mask = mask ? mask->logical_and(seen.unsqueeze(1).unsqueeze(1)) : seen.unsqueeze(1).unsqueeze(1);
  for (const XlmRobertaLayer& layer : layers_) x = layer(x, mask);
  if (spec_.has_pre_transformation) x = normed(x, pre_norm_);
  return at::linear(x, transformation_[0], transformation_[1]);
}

}  // namespace easel
