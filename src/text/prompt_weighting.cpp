// What weights do to the states of a prompt.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "easel/text.h"

namespace easel {

namespace {

bool is_plain(const PromptChunk& chunk) {
  return std::all_of(chunk.weights.begin(), chunk.weights.end(), [](double w) { return w == 1; });
}

// [1, T, 1]
Tensor weights_of(const PromptChunk& chunk, const Tensor& states) {
  return at::tensor(chunk.weights, at::kDouble).to(states.options()).view({1, -1, 1});
}

// EmphasisOriginal of AUTOMATIC1111's sd_emphasis.py. Its mean is over all chunks it happens to encode at once; here it
// is over this one, so that a picture does not depend on its neighbours.
Tensor a1111(const PromptChunk& chunk, const Tensor& states) {
  if (is_plain(chunk)) return states;
  const Tensor weighted = states * weights_of(chunk, states);
  const Tensor ratio = states.mean() / weighted.mean();
  return std::isfinite(ratio.item<double>()) ? weighted * ratio : weighted;
}

// compel's EmbeddingsProvider.
class Compel {
 public:
  // plain: each chunk's states, float32.
  Compel(const std::vector<PromptChunk>& chunks, const std::vector<Tensor>& plain, const EncodeChunk& encode,
         const std::function<Tensor()>& empty)
      : chunks_(chunks), plain_(plain), encode_(encode), empty_(empty) {}

  Tensor states() {
    const std::map<int64_t, double> lighter = fragments_below_one();
    Tensor sum = weighted(/*hidden=*/-1);
    double total = 1;
    for (const auto& [fragment, weight] : lighter) {
      constexpr double kLeast = 1e-5;  // the tangent ends at 0
      const double blend = std::tan((1 - std::max(kLeast, weight)) * std::numbers::pi / 2);
      sum = sum + blend * weighted(fragment);
      total += blend;
    }
    if (!lighter.empty()) sum = sum / total;
    return with_first_end(sum);
  }

 private:
  std::map<int64_t, double> fragments_below_one() const {
    std::map<int64_t, double> found;
    for (const PromptChunk& chunk : chunks_) {
      for (std::size_t i = 0; i < chunk.ids.size(); ++i) {
        if (chunk.fragments[i] >= 0 && chunk.weights[i] < 1) found[chunk.fragments[i]] = chunk.weights[i];
      }
    }
    return found;
  }

  // All chunks, the words of one fragment hidden.
  Tensor weighted(int64_t hidden) {
    std::vector<Tensor> all;
    for (std::size_t i = 0; i < chunks_.size(); ++i) all.push_back(weighted(i, hidden));
    return at::cat(all, 1);
  }

  Tensor weighted(std::size_t i, int64_t hidden) {
    const PromptChunk& chunk = chunks_[i];
    const auto& fragments = chunk.fragments;
    Tensor states = plain_[i];
    if (hidden >= 0 && std::find(fragments.begin(), fragments.end(), hidden) != fragments.end())
      states = encode_(chunk, at::tensor(fragments, at::kLong).ne(hidden).unsqueeze(0)).states.to(at::kFloat);
    if (is_plain(chunk)) return states;
    if (!nothing_.defined()) nothing_ = empty_().to(at::kFloat);
    const Tensor weights = weights_of(chunk, states);
    return at::where(weights.eq(1), states, nothing_ + (states - nothing_) * weights);
  }

  // SplitLongTextMode.COPY_FIRST_CLS_TOKEN: the end token of every chunk says what the first one's does.
  Tensor with_first_end(const Tensor& states) const {
    if (chunks_.size() == 1) return states;
    const auto length = static_cast<int64_t>(chunks_.front().ids.size());
    const Tensor out = states.clone(), first = states.select(1, chunks_.front().length - 1);
    for (std::size_t i = 1; i < chunks_.size(); ++i)
      out.select(1, static_cast<int64_t>(i) * length + chunks_[i].length - 1).copy_(first);
    return out;
  }

  const std::vector<PromptChunk>& chunks_;
  const std::vector<Tensor>& plain_;
  const EncodeChunk& encode_;
  const std::function<Tensor()>& empty_;
  Tensor nothing_;
};

}  // namespace

EncodedText encode_weighted(const std::vector<PromptChunk>& chunks, PromptWeighting weighting,
                            const EncodeChunk& encode, const std::function<Tensor()>& empty) {
  EncodedText out;
  std::vector<Tensor> states;
  for (const PromptChunk& chunk : chunks) {
    const EncodedText plain = encode(chunk, {});
    if (states.empty()) out.pooled = plain.pooled;
    states.push_back(plain.states.to(at::kFloat));
  }
  if (weighting == PromptWeighting::kCompel) {
    out.states = Compel(chunks, states, encode, empty).states();
    return out;
  }
  for (std::size_t i = 0; i < chunks.size(); ++i) states[i] = a1111(chunks[i], states[i]);
  out.states = at::cat(states, 1);
  return out;
}

}  // namespace easel
