// Collecting what the network saw and said on the way from noise to picture.
#pragma once

#include "easel/pipeline.h"

namespace easel {

class TrajectoryKeeper {
 public:
  // `calls`: of the network in the whole run. Does nothing without a trajectory.
  TrajectoryKeeper(Trajectory* trajectory, int calls) : trajectory_(trajectory), calls_(calls) {}

  Denoiser watch(Denoiser denoise);
  // `decode`: [1, C, h, w] float32 → [3, H, W] float32 on the CPU.
  void finish(const std::function<Tensor(const Tensor&)>& decode);

 private:
  struct Moment {
    double t;
    Tensor noisy, predicted;
  };
  Trajectory* trajectory_;
  int calls_, seen_ = 0;
  std::vector<Moment> moments_;
};

}  // namespace easel
