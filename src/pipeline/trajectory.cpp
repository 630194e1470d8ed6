#include "pipeline/trajectory.h"

#include <cmath>

namespace easel {

void TrajectoryKeeper::begin(int calls) {
  calls_ = calls;
  seen_ = 0;
  moments_.clear();
}

Denoiser TrajectoryKeeper::watch(Denoiser denoise) {
  if (trajectory_ == nullptr) return denoise;
  return watched(std::move(denoise), [this](const Tensor& x, const Step& step, const Prediction& prediction) {
    const bool is_last = ++seen_ == calls_;
    if ((seen_ - 1) % trajectory_->every != 0 && !is_last) return;
    const double scale = std::sqrt(step.alpha * step.alpha + step.sigma * step.sigma);
    moments_.push_back({step.t, (x / scale).to(at::kFloat), prediction.x0.to(at::kFloat)});
  });
}

void TrajectoryKeeper::finish(const std::function<Tensor(const Tensor&)>& decode) {
  if (trajectory_ == nullptr) return;
  for (const Moment& moment : moments_) {
    check_interrupted();
    const std::string label = "t " + std::to_string(std::lround(moment.t));
    trajectory_->noisy.push_back({to_image(decode(moment.noisy)), label});
    trajectory_->predicted.push_back({to_image(decode(moment.predicted)), label});
  }
}

}  // namespace easel
