#include "easel/nn.h"

namespace easel {

ResnetBlock::ResnetBlock(const Weights& w, const ResnetSpec& s)
    : norm1(w / "norm1", s.in, s.groups, s.eps),
      conv1(w / "conv1", {.in = s.in, .out = s.out}),
      norm2(w / "norm2", s.out, s.groups, s.eps),
      conv2(w / "conv2", {.in = s.out, .out = s.out}),
      output_scale(s.output_scale) {
  if (s.time_width > 0) time_emb_proj.emplace(w / "time_emb_proj", s.time_width, s.out);
  if (s.in != s.out) conv_shortcut.emplace(w / "conv_shortcut", Conv2d::Shape2d{s.in, s.out, 1, 1, 0});
}

Tensor TimeShifts::of(const Linear& projection, int64_t call) {
  Tensor& all = shifts_[&projection];
  if (!all.defined()) all = projection(embeddings_);
  return all.narrow(0, call * rows_, rows_);
}

namespace {

bool is_held_once(const Tensor& x) { return x.use_count() == 1 && x.storage().use_count() == 1; }

}  // namespace

Tensor ResnetBlock::operator()(Tensor x, const TimeEmbedding& time) const {
  const Tensor shift = time_emb_proj ? time.through(*time_emb_proj) : Tensor();
  Tensor h = conv1.of_norm_silu(norm1, x, {.shift = shift, .residual = {}});
  const bool may_overwrite = conv_shortcut.has_value() || is_held_once(x);
  const Tensor residual = conv_shortcut ? (*conv_shortcut)(x) : x;
  h = conv2.of_norm_silu(norm2, h, {.shift = {}, .residual = residual, .may_overwrite = may_overwrite});
  return output_scale == 1.0 ? h : h.div_(output_scale);
}

SpatialAttention::SpatialAttention(const Weights& w, const SpatialAttentionSpec& s)
    : group_norm(w / "group_norm", s.channels, s.groups, s.eps),
      to_q(w.either({"to_q", "query"}), s.channels, s.channels),
      to_k(w.either({"to_k", "key"}), s.channels, s.channels),
      to_v(w.either({"to_v", "value"}), s.channels, s.channels),
      to_out(w.either({"to_out.0", "proj_attn"}), s.channels, s.channels),
      heads(s.heads),
      output_scale(s.output_scale) {}

Tensor SpatialAttention::operator()(const Tensor& x) const {
  const Tensor tokens = to_tokens(group_norm(x));
  const Tensor attended = attention(to_q(tokens), to_k(tokens), to_v(tokens), heads);
  Tensor out = from_tokens(to_out(attended, to_tokens(x)), x.size(2), x.size(3));
  return output_scale == 1.0 ? out : out.div_(output_scale);
}

Downsample::Downsample(const Weights& w, int64_t channels, int64_t padding)
    : conv(w / "conv", {.in = channels, .out = channels, .stride = 2, .padding = padding}) {}

Tensor Downsample::operator()(const Tensor& x) const {
  return conv(conv.padding == 0 ? at::constant_pad_nd(x, {0, 1, 0, 1}) : x);
}

Upsample::Upsample(const Weights& w, int64_t channels) : conv(w / "conv", {.in = channels, .out = channels}) {}

Tensor Upsample::operator()(const Tensor& x, int64_t height, int64_t width) const {
  return conv.upsampled(x, height, width);
}

}  // namespace easel
