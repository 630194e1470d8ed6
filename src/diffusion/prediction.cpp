// From a network's output to x0 and eps; guidance.
#include <algorithm>
#include <cmath>

#include "easel/diffusion.h"

namespace easel {

Denoiser make_denoiser(Network network, PredictionType prediction) {
  return [network = std::move(network), prediction](const Tensor& x, const Step& step) {
    // a, b: alpha and sigma of the variance-preserving process that the network was trained on, a² + b² = 1
    const double norm = std::hypot(step.alpha, step.sigma);
    const double a = step.alpha / norm, b = step.sigma / norm;
    const bool unit = std::abs(norm - 1) < 1e-12;
    const Tensor input = unit ? x : x / norm;

    Tensor out = network(input, step.t);
    Prediction p;
    const int64_t channels = x.size(1);
    if (out.size(1) == 2 * channels) {
      p.variance = out.narrow(1, channels, channels);
      out = out.narrow(1, 0, channels);
    }
    TORCH_CHECK(out.sizes() == x.sizes(), "the network returned ", out.sizes(), " for an input of ", x.sizes());
    switch (prediction) {
      case PredictionType::kEpsilon:
        p.eps = out;
        p.x0 = (x - step.sigma * out) / step.alpha;  // Ho et al. 2020, eq. 15
        break;
      case PredictionType::kVPrediction:  // Salimans & Ho 2022, §D: v = a·eps − b·x0
        p.x0 = a * input - b * out;
        p.eps = a * out + b * input;
        break;
      case PredictionType::kSample:
        p.x0 = out;
        p.eps = (x - step.alpha * out) / step.sigma;
        break;
    }
    return p;
  };
}

namespace {

// The deviation over each picture, unbiased as torch.std is. [B, 1, 1, 1]
Tensor deviation(const Tensor& x) {
  return x.std(/*dim=*/at::IntArrayRef{1, 2, 3}, /*correction=*/1, /*keepdim=*/true);
}

// [B, 1, 1, 1] on x's device.
Tensor by_picture(const std::vector<double>& values, const Tensor& x) {
  return at::tensor(values, at::kDouble).to(x.scalar_type()).view({-1, 1, 1, 1}).to(x.device());
}

// Lin et al. 2023, eq. 15 and 16. `rescales`: none or B.
Tensor rescaled(const Tensor& guided, const Tensor& cond, const std::vector<double>& rescales) {
  if (std::all_of(rescales.begin(), rescales.end(), [](double r) { return r <= 0; })) return guided;
  std::vector<double> rest;
  for (const double r : rescales) rest.push_back(1 - r);
  const Tensor factor = deviation(cond) / deviation(guided);
  return by_picture(rescales, guided) * (guided * factor) + by_picture(rest, guided) * guided;
}

}  // namespace

Network guide(Network batch_of_two, std::vector<double> scales, std::vector<double> rescales) {
  return [network = std::move(batch_of_two), scales = std::move(scales), rescales = std::move(rescales)](
             const Tensor& x, double t) {
    const std::vector<Tensor> halves = network(at::cat({x, x}), t).chunk(2);
    const Tensor &uncond = halves[0], &cond = halves[1];
    return rescaled(uncond + by_picture(scales, cond) * (cond - uncond), cond, rescales);
  };
}

Network guide(Network batch_of_two, double scale, double rescale) {
  return guide(std::move(batch_of_two), std::vector{scale}, std::vector{rescale});
}

Denoiser guided_between(double start, double end, Denoiser guided, Denoiser plain) {
  return [start, end, guided = std::move(guided), plain = std::move(plain)](const Tensor& x, const Step& step) {
    const bool inside = step.progress >= start && step.progress < end;
    return inside ? guided(x, step) : plain(x, step);
  };
}

Denoiser watched(Denoiser denoise, OnPrediction see) {
  return [denoise = std::move(denoise), see = std::move(see)](const Tensor& x, const Step& step) {
    Prediction prediction = denoise(x, step);
    see(x, step, prediction);
    return prediction;
  };
}

}  // namespace easel
