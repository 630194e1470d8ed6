// unet: ControlNet (Zhang, Rao & Agrawala 2023, arXiv 2302.05543; diffusers' ControlNetModel): a copy of the U-Net's
// way down that looks at a control picture too, and adds what it finds to the U-Net's skip connections.
#pragma once

#include "easel/unet.h"

namespace easel {

// config.json of a ControlNetModel.
struct ControlNetSpec {
  UNetSpec unet;  // whose way down it is; its way up is not built
  std::vector<int64_t> hint_channels = {16, 32, 96,
                                        256};  // of the control picture's embedding; each halves it but the first
  int64_t conditioning_channels = 3;
  bool bgr = false;                     // controlnet_conditioning_channel_order
  bool global_pool_conditions = false;  // residuals are means over the picture (shuffle)

  int64_t factor() const { return int64_t{1} << (hint_channels.size() - 1); }

  // Throws Error(kFile) with every fault, as UNetSpec::from_json.
  static ControlNetSpec from_json(const json& config, const std::string& where);
};

// Immutable once built: calls may run concurrently.
class ControlNet {
 public:
  ControlNet(const Weights& w, const ControlNetSpec& spec);
  ~ControlNet();
  ControlNet(ControlNet&&) noexcept;

  // The control picture [B, 3, H·factor, W·factor] in [0, 1], embedded once for all steps: [B, C, H, W].
  Tensor hint(const Tensor& picture) const;
  // As of UNet, with the hint of the same B. `guess`: diffusers' guess mode, residuals from a tenth at the finest to
  // the whole at the middle. Scaled by `strength`.
  ControlResiduals operator()(const Tensor& sample, double t, const Tensor& context, const AddedConditions& added,
                              const Tensor& hint, double strength, bool guess) const;

  const ControlNetSpec& spec() const { return spec_; }

 private:
  struct Network;
  ControlNetSpec spec_;
  std::unique_ptr<const Network> network_;
};

}  // namespace easel
