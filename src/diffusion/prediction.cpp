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

namespace {

// x once for each of the parts that a picture's conditions are.
Tensor repeated(const Tensor& x, std::size_t times) { return at::cat(std::vector<Tensor>(times, x)); }

// The k-th weight of every picture, [B, 1, 1, 1].
Tensor weights_at(std::size_t k, const std::vector<std::vector<double>>& weights, const Tensor& x) {
  std::vector<double> values;
  for (const std::vector<double>& of_picture : weights) values.push_back(of_picture[k]);
  return by_picture(values, x);
}

}  // namespace

Network guide(Network batch, std::vector<double> scales, std::vector<double> rescales,
              std::vector<std::vector<double>> weights) {
  return [network = std::move(batch), scales = std::move(scales), rescales = std::move(rescales),
          weights = std::move(weights)](const Tensor& x, double t) {
    const std::size_t count = weights.front().size();
    const std::vector<Tensor> rows = network(repeated(x, 1 + count), t).chunk(static_cast<int64_t>(1 + count));
    const Tensor& uncond = rows.front();
    Tensor away = at::zeros_like(uncond);
    for (std::size_t k = 0; k < count; ++k) away = away + weights_at(k, weights, uncond) * (rows[k + 1] - uncond);
    return rescaled(uncond + by_picture(scales, uncond) * away, uncond + away, rescales);
  };
}

Network composed(Network batch, std::vector<std::vector<double>> weights) {
  for (std::vector<double>& of_picture : weights) {
    double sum = 0;
    for (const double w : of_picture) sum += w;
    const bool has_mean = std::abs(sum) > 1e-6;
    for (double& w : of_picture) w = has_mean ? w / sum : &w == &of_picture.front();
  }
  return [network = std::move(batch), weights = std::move(weights)](const Tensor& x, double t) {
    const std::size_t count = weights.front().size();
    const std::vector<Tensor> rows = network(repeated(x, count), t).chunk(static_cast<int64_t>(count));
    Tensor mean = at::zeros_like(rows.front());
    for (std::size_t k = 0; k < count; ++k) mean = mean + weights_at(k, weights, mean) * rows[k];
    return mean;
  };
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
