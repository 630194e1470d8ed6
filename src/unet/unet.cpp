#include "easel/unet.h"

#include "unet/condition_embedding.h"
#include "unet/graphed_body.h"

namespace easel {

struct UNet::Network {
  ConditionEmbedding condition;
  UNetBody body;

  Network(const Weights& w, const UNetSpec& s) : condition(w, s), body(w, body_spec(s)) {}
};

UNet::UNet(const Weights& w, const UNetSpec& spec) : spec_(spec), network_(std::make_unique<Network>(w, spec)) {}
UNet::~UNet() = default;
UNet::UNet(UNet&&) noexcept = default;

int64_t UNetSpec::time_id_count(int64_t pooled_width) const {
  const int64_t rest = text_time.value().input_width - pooled_width;
  return rest > 0 && rest % text_time->time_embed_dim == 0 ? rest / text_time->time_embed_dim : 0;
}

int64_t UNetSpec::skips() const {
  int64_t count = static_cast<int64_t>(levels.size());  // conv_in's and the downsamplers'
  for (const UNetLevel& level : levels) count += level.layers;
  return count;
}

Coarsest UNetSpec::coarsest() const {
  const auto halvings = static_cast<int64_t>(levels.size()) - 1;
  return std::min(sample_height, sample_width) >> halvings >= 32 ? Coarsest::kLarge : Coarsest::kSmall;
}

void TextProjections::begin(const Tensor& context) {
  // The held text's memory cannot be another text's.
  const bool is_same = context_.defined() && context_.data_ptr() == context.data_ptr() &&
                       context_.sizes() == context.sizes() && context_.strides() == context.strides();
  if (!is_same) {
    layers_.clear();
    ++texts_;
  }
  context_ = context;
}

Tensor UNet::operator()(const Tensor& sample, double t, const Tensor& context, const AddedConditions& added,
                        const ControlResiduals* control, DeepFeature* deep, TextProjections* projections,
                        StepGraphs* graphs) const {
  check_arguments(spec_, sample, context, added);
  const Tensor x = spec_.center_input_sample ? 2 * sample - 1 : sample;
  if (projections != nullptr) projections->begin(context);
  // Outside a graph: it comes from numbers of the host's.
  const Tensor time = network_->condition(spec_, sample, t, added);
  const TextContext text = {context, projections};
  if (graphs == nullptr || !graphs->are_on() || projections == nullptr)
    return network_->body(x, time, text, control, deep);
  return graphed(network_->body, *graphs, x, time, text, control, deep);
}

}  // namespace easel
