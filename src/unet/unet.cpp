#include "easel/unet.h"

#include <algorithm>

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

namespace {

// More would fill memory: of a thousand steps of Stable Diffusion 1.5 the blocks' shifts are 80 MB in float32.
constexpr std::size_t kMostTimesteps = 200;

bool is_same(const AddedConditions& a, const AddedConditions& b) {
  return a.text_embeds.is_same(b.text_embeds) && a.time_ids.is_same(b.time_ids) && a.guidance_scale == b.guidance_scale;
}

}  // namespace

TimeProjections::TimeProjections(std::vector<double> timesteps) : timesteps_(std::move(timesteps)) {
  if (timesteps_.size() > kMostTimesteps) timesteps_.clear();
}

std::optional<TimeEmbedding> TimeProjections::at(double t, const AddedConditions& added,
                                                 const std::function<Tensor(const std::vector<double>&)>& embed) {
  const auto found = std::find(timesteps_.begin(), timesteps_.end(), t);
  if (found == timesteps_.end()) return std::nullopt;
  if (!shifts_) {
    const Tensor all = embed(timesteps_);
    shifts_.emplace(all, all.size(0) / static_cast<int64_t>(timesteps_.size()));
    added_ = added;
  }
  if (!is_same(added, added_)) return std::nullopt;
  return TimeEmbedding(*shifts_, found - timesteps_.begin());
}

Tensor UNet::operator()(const Tensor& sample, double t, const Tensor& context, const AddedConditions& added,
                        const ControlResiduals* control, const BetweenCalls& kept) const {
  check_arguments(spec_, sample, context, added);
  const Tensor x = spec_.center_input_sample ? 2 * sample - 1 : sample;
  if (kept.texts != nullptr) kept.texts->begin(context);
  const TextContext text = {context, kept.texts};
  const auto embed = [&](const std::vector<double>& timesteps) {
    return network_->condition(spec_, sample, timesteps, added);
  };
  // Outside a graph: it comes from numbers of the host's.
  if (kept.graphs != nullptr && kept.graphs->are_on() && kept.texts != nullptr)
    return graphed(network_->body, *kept.graphs, x, embed({t}), text, control, kept.deep);
  const std::optional<TimeEmbedding> of_run = kept.times != nullptr ? kept.times->at(t, added, embed) : std::nullopt;
  return network_->body(x, of_run ? *of_run : embed({t}), text, control, kept.deep);
}

}  // namespace easel
