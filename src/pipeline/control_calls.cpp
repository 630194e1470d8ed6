#include "pipeline/control_calls.h"

namespace easel {

std::vector<AppliedControl> apply_controls(const Pack& pack, const std::vector<const std::vector<Image>*>& pictures,
                                           StageSet& nets, Timings& time) {
  const Request& first = *pack.front();
  const at::TensorOptions options = at::TensorOptions(nets.precision().device).dtype(nets.precision().unet);
  const std::vector<ControlPtr> opened = open_controls(first, nets.checkpoint());
  std::vector<AppliedControl> applied;
  for (std::size_t i = 0; i < opened.size(); ++i) {
    const ControlNet& network = nets.control(*opened[i], &time.load);
    const double start = now_seconds();
    std::vector<Tensor> hints;
    for (std::size_t row = 0; row < pack.size(); ++row) {
      check_interrupted();
      const Request& r = *pack[row];
      const Tensor pixels =
          control_pixels((*pictures[row])[i], r, static_cast<int>(*r.width), static_cast<int>(*r.height));
      hints.push_back(network.hint(pixels.to(options)));
    }
    // Pooled residuals are those of guess mode in diffusers, too.
    const bool guess = first.control_guess.value_or(false) || network.spec().global_pool_conditions;
    applied.push_back({network, at::cat(hints), (*first.control_strength)[i], (*first.control_start)[i],
                       (*first.control_end)[i], guess});
    time.encode += now_seconds() - start;
  }
  return applied;
}

namespace {

bool is_at_work(const AppliedControl& control, const NetworkCall& call) {
  return control.strength != 0 && !(static_cast<double>(call.number) / call.of < control.start) &&
         !(static_cast<double>(call.number + 1) / call.of > control.end);
}

Tensor repeated(const Tensor& rows, int64_t times) { return times == 1 ? rows : rows.repeat({times, 1, 1, 1}); }

// Zeros for rows that were not looked at.
Tensor behind_zeros(const Tensor& residual, int64_t rows) {
  if (rows == 0) return residual;
  std::vector<int64_t> shape = residual.sizes().vec();
  shape.front() = rows;
  return at::cat({at::zeros(shape, residual.options()), residual});
}

void add(ControlResiduals& sum, ControlResiduals more) {
  if (sum.down.empty()) {
    sum = std::move(more);
    return;
  }
  for (std::size_t i = 0; i < sum.down.size(); ++i) sum.down[i] = sum.down[i] + more.down[i];
  sum.mid = sum.mid + more.mid;
}

}  // namespace

std::optional<ControlResiduals> residuals(const std::vector<AppliedControl>& controls, const NetworkCall& call,
                                          const Tensor& x, double t, const Conditioning& told, int64_t pictures,
                                          int64_t conditions) {
  ControlResiduals sum;
  const bool has_unconditional = x.size(0) == (1 + conditions) * pictures;
  for (const AppliedControl& control : controls) {
    if (!is_at_work(control, call)) continue;
    const int64_t skipped = control.guess && has_unconditional ? pictures : 0;
    const int64_t rows = x.size(0) - skipped;
    Conditioning seen = skipped > 0 ? conditional_rows(told, pictures) : told;
    seen.added.guidance_scale.reset();  // ControlNets are not distilled
    ControlResiduals one = control.network(x.narrow(0, skipped, rows), t, seen.context, seen.added,
                                           repeated(control.hint, rows / pictures), control.strength, control.guess);
    for (Tensor& down : one.down) down = behind_zeros(down, skipped);
    one.mid = behind_zeros(one.mid, skipped);
    add(sum, std::move(one));
  }
  if (sum.down.empty()) return std::nullopt;
  return sum;
}

}  // namespace easel
