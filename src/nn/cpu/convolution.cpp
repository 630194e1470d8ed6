#include "nn/cpu/convolution.h"

namespace easel::cpu {

std::vector<int64_t> nearest_places(int64_t given, int64_t seen) {
  std::vector<int64_t> place(static_cast<std::size_t>(seen));
  const float scale = static_cast<float>(given) / static_cast<float>(seen);
  for (int64_t i = 0; i < seen; ++i) {
    const auto nearest = static_cast<int64_t>(std::floor(static_cast<float>(i) * scale));
    place[static_cast<std::size_t>(i)] = given == seen ? i : 2 * given == seen ? i / 2 : std::min(nearest, given - 1);
  }
  return place;
}

Tensor room_for_pixels(const Seen& seen, AddedToPixels& added) {
  constexpr auto kLast = at::MemoryFormat::ChannelsLast;
  const Tensor& x = seen.x;
  TORCH_CHECK(!seen.norm || (x.size(2) == seen.height && x.size(3) == seen.width),
              "norm of a picture that is brought to another size");
  const Tensor given = added.residual;
  if (given.defined()) added.residual = given.contiguous(kLast);
  if (given.defined() && added.may_overwrite && added.residual.is_same(given)) return given;
  return at::empty({x.size(0), added.shift.size(1), seen.height, seen.width}, x.options(), kLast);
}

}  // namespace easel::cpu
