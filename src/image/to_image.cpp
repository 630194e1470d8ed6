#include <cmath>

#include "easel/image.h"

namespace easel {

namespace {

void check_finite(const Tensor& decoded) {
  if (decoded.numel() == 0) return;
  const auto [lowest, highest] = at::aminmax(decoded);  // NaN if any value is; one pass, against isfinite's four
  if (std::isfinite(lowest.item<double>()) && std::isfinite(highest.item<double>())) return;
  const int64_t bad = decoded.numel() - at::isfinite(decoded).sum().item<int64_t>();
  throw Error(ErrorKind::kPicture,
              "decoded picture " + to_string(decoded.sizes()) + ": " + std::to_string(bad) + " of " +
                  std::to_string(decoded.numel()) + " values are not finite (NaN or infinite)",
              "try --dtype f32; if that fails too, the model's weights are damaged");
}

}  // namespace

Image to_image(const Tensor& decoded) {
  TORCH_CHECK(decoded.dim() == 3 && decoded.size(0) == 3 && decoded.is_floating_point(),
              "to_image expects floating point [3, H, W], got ", decoded.scalar_type(), " ", decoded.sizes());
  check_finite(decoded);
  const Tensor unit = decoded.mul(0.5).add_(0.5).clamp_(0, 1);
  const Tensor bytes = unit.cpu().to(at::kFloat).mul_(255).round_().to(at::kByte).permute({1, 2, 0}).contiguous();
  const uint8_t* data = bytes.const_data_ptr<uint8_t>();
  return {static_cast<int>(decoded.size(2)), static_cast<int>(decoded.size(1)), {data, data + bytes.numel()}};
}

}  // namespace easel
