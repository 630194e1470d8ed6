#include "unet/transformer.h"

#include "easel/runtime.h"

namespace easel {

namespace {

constexpr double kGroupNormEps = 1e-6;  // Transformer2DModel's own, not the U-Net's norm_eps
constexpr double kLayerNormEps = 1e-5;

Linear projection(const Weights& w, const TransformerSpec& s) {
  return s.linear_projection ? Linear(w, s.channels, s.channels) : Linear::of_convolution(w, s.channels, s.channels);
}

int64_t leading_zeros(const Tensor& values) {
  int64_t count = 0;
  while (count < values.size(0) && !values[count].any().item<bool>()) ++count;
  return count;
}

}  // namespace

Attention::Attention(const Weights& w, int64_t width, int64_t context_width, int64_t heads_)
    : to_q(w / "to_q", width, width, Bias::kNo),
      to_k(w / "to_k", context_width, width, Bias::kNo),
      to_v(w / "to_v", context_width, width, Bias::kNo),
      to_out(w / "to_out" / 0, width, width),
      heads(heads_) {}

TextProjections::KeysValues Attention::project(const Tensor& context) const { return {to_k(context), to_v(context)}; }

TextProjections::KeysValues Attention::project(const TextContext& text) const {
  if (text.projections == nullptr) return project(text.states);
  TextProjections::KeysValues& kept = text.projections->of(this);
  if (!kept.keys.defined()) {
    kept = project(text.states);
    kept.silent = leading_zeros(kept.values);
  }
  return kept;
}

void Attention::fuse_projections() {
  to_qkv = Linear::side_by_side({&to_q, &to_k, &to_v});
  if (to_qkv) to_q.weight = to_k.weight = to_v.weight = Tensor();
}

Tensor Attention::of_itself(const Tensor& x) const {
  if (!to_qkv) return (*this)(x, project(x));
  const std::vector<Tensor> qkv = (*to_qkv)(x).chunk(3, -1);
  return attention(qkv[0], qkv[1], qkv[2], heads);
}

Tensor Attention::operator()(const Tensor& x, const TextProjections::KeysValues& context) const {
  return attention(to_q(x), context.keys, context.values, heads);
}

Tensor Attention::beside_zeros(const SumAndNorm& h, const TextProjections::KeysValues& context) const {
  const int64_t silent = context.silent, rest = h.sum.size(0) - silent;
  const Tensor biased = h.sum.narrow(0, 0, silent) + to_out.bias;
  if (rest == 0) return biased;
  const auto spoken = [&](const Tensor& t) { return t.narrow(0, silent, rest); };
  const Tensor attended = (*this)(spoken(h.norm), {spoken(context.keys), spoken(context.values)});
  return at::cat({biased, to_out(attended, spoken(h.sum))});
}

GegluFeedForward::GegluFeedForward(const Weights& w, int64_t width)
    : proj(w / "net" / 0 / "proj", width, 8 * width), out(w / "net" / 2, 4 * width, width) {}

Tensor GegluFeedForward::operator()(const Tensor& x, const Tensor& residual) const {
  // On the CPU some tokens at a time, whose eightfold width stays in its caches.
  constexpr int64_t kTokens = 1024;
  const int64_t tokens = x.size(0) * x.size(1), width = x.size(2);
  if (!x.is_cpu() || tokens < 2 * kTokens) return out(proj.geglu(x), residual);
  const Tensor rows = x.reshape({tokens, width}), more = residual.reshape({tokens, width});
  Tensor y = at::empty({tokens, width}, x.options());
  for (int64_t first = 0; first < tokens; first += kTokens) {
    const int64_t count = std::min(kTokens, tokens - first);
    const auto part = [&](const Tensor& t) { return t.narrow(0, first, count); };
    part(y).copy_(out(proj.geglu(part(rows)), part(more)));
  }
  return y.view(x.sizes());
}

BasicTransformerBlock::BasicTransformerBlock(const Weights& w, const TransformerSpec& s)
    : norm1(w / "norm1", s.channels, kLayerNormEps),
      attn1(w / "attn1", s.channels, s.channels, s.heads),
      norm2(w / "norm2", s.channels, kLayerNormEps),
      attn2(w / "attn2", s.channels, s.context_width, s.heads),
      norm3(w / "norm3", s.channels, kLayerNormEps),
      ff(w / "ff", s.channels) {
  // One large product in place of three small ones, which leave many of a device's processors idle, and for which its
  // rows are brought together three times.
  if (kernels() == Kernels::kFast && (w.device().is_cuda() || w.is_packed())) attn1.fuse_projections();
}

Tensor BasicTransformerBlock::operator()(Tensor x, const TextContext& text) const {
  SumAndNorm h = {.sum = x, .norm = norm1(x)};
  x.reset();
  h = norm2.of_sum(attn1.to_out, attn1.of_itself(h.norm), h.sum);
  const TextProjections::KeysValues told = attn2.project(text);
  if (told.silent == 0) {
    h = norm3.of_sum(attn2.to_out, attn2(h.norm, told), h.sum);
  } else {
    h.sum = attn2.beside_zeros(h, told);
    h.norm = norm3(h.sum);
  }
  return ff(h.norm, h.sum);
}

Transformer2D::Transformer2D(const Weights& w, const TransformerSpec& s)
    : norm(w / "norm", s.channels, s.groups, kGroupNormEps),
      proj_in(projection(w / "proj_in", s)),
      proj_out(projection(w / "proj_out", s)) {
  for (int64_t i = 0; i < s.layers; ++i) transformer_blocks.emplace_back((w / "transformer_blocks" / i).int8(), s);
}

Tensor Transformer2D::operator()(const Tensor& x, const TextContext& text) const {
  Tensor tokens = proj_in(to_tokens(norm(x)));
  for (const BasicTransformerBlock& block : transformer_blocks) tokens = block(tokens, text);
  return from_tokens(proj_out(tokens, to_tokens(x)), x.size(2), x.size(3));
}

}  // namespace easel
