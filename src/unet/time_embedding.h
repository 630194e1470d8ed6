// Numbers as vectors: the timestep, SDXL's sizes, LCM's guidance scale.
#pragma once

#include "easel/nn.h"

namespace easel {

// diffusers' TimestepEmbedding: linear → SiLU → linear.
struct TimestepEmbedding {
  Linear linear_1, linear_2;
  std::optional<Tensor> cond_proj;  // [in, cond_width]: a linear without bias
  TimestepEmbedding(const Weights& w, int64_t in, int64_t out, int64_t cond_width = 0);
  // x: [1 or B, in]; condition: [1, cond_width] or undefined → [1 or B, out]
  Tensor operator()(const Tensor& x, const Tensor& condition = {}) const;
};

// [B, N] → [B, N·width] float32 on the CPU: the sinusoids of each number, side by side.
Tensor number_embeddings(const Tensor& numbers, int64_t width, bool flip_sin_to_cos, double freq_shift);

// diffusers' get_guidance_scale_embedding of scale − 1: [1, width] float32.
Tensor guidance_embedding(double scale, int64_t width);

}  // namespace easel
