#include "diffusion/lagrange.h"

#include <cmath>

namespace easel::diffusion {
namespace {

// ∫_0^h e^{−a·s}·s^k ds for k = 0…count−1, by parts.
std::vector<double> moments(double a, double h, std::size_t count) {
  std::vector<double> m(count);
  for (std::size_t k = 0; k < count; ++k) {
    const double degree = static_cast<double>(k);
    if (a == 0)
      m[k] = std::pow(h, degree + 1) / (degree + 1);
    else if (k == 0)
      m[k] = -std::expm1(-a * h) / a;
    else
      m[k] = (degree * m[k - 1] - std::pow(h, degree) * std::exp(-a * h)) / a;
  }
  return m;
}

// Coefficients of ℓ_j, constant first.
std::vector<double> lagrange_polynomial(const std::vector<double>& nodes, std::size_t j) {
  std::vector<double> p = {1};
  for (std::size_t k = 0; k < nodes.size(); ++k) {
    if (k == j) continue;
    std::vector<double> product(p.size() + 1);  // p·(s − node)/(node_j − node)
    for (std::size_t i = 0; i < p.size(); ++i) {
      product[i] -= p[i] * nodes[k] / (nodes[j] - nodes[k]);
      product[i + 1] += p[i] / (nodes[j] - nodes[k]);
    }
    p = product;
  }
  return p;
}

}  // namespace

std::vector<double> adams_weights(double a, double h, const std::vector<double>& nodes) {
  const std::vector<double> m = moments(a, h, nodes.size());
  std::vector<double> weights(nodes.size());
  for (std::size_t j = 0; j < nodes.size(); ++j) {
    const std::vector<double> p = lagrange_polynomial(nodes, j);
    for (std::size_t k = 0; k < p.size(); ++k) weights[j] += p[k] * m[k];
  }
  return weights;
}

}  // namespace easel::diffusion
