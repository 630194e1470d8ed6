#pragma once

#include <vector>

namespace easel::diffusion {

// w_j = ∫_0^h e^{−a·s}·ℓ_j(s) ds, ℓ_j the Lagrange polynomial that is 1 at nodes[j] and 0 at the others: the weights of
// an exponential Adams method, and with a = 0 those of Adams' own on uneven steps.
std::vector<double> adams_weights(double a, double h, const std::vector<double>& nodes);

}  // namespace easel::diffusion
