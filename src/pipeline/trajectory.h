// Collecting what the network saw and said on the way from noise to picture.
#pragma once

#include "easel/pipeline.h"

namespace easel {

class TrajectoryKeeper {
 public:
  // Does nothing without a trajectory.
  explicit TrajectoryKeeper(Trajectory* trajectory) : trajectory_(trajectory) {}

  // A run of so many network calls; what an earlier one left is forgotten.
  void begin(int calls);
  Denoiser watch(Denoiser denoise);
  // After the run's result was found to be finite. `decode`: [1, C, h, w] float32 → [3, H, W] float32 on the CPU.
  void finish(const std::function<Tensor(const Tensor&)>& decode);

 private:
  struct Moment {
    double t;
    Tensor noisy, predicted;
  };
  Trajectory* trajectory_;
  int calls_ = 0, seen_ = 0;
  std::vector<Moment> moments_;
};

}  // namespace easel
