#include "weights/finite.h"

#include <ATen/Parallel.h>

#include <atomic>
#include <bit>

namespace easel {

namespace {

// IEEE 754: the exponent of NaN and of infinity is all ones. A compare and an or, which compilers vectorise on the
// oldest instruction set.
template <typename Word, typename Float>
bool finite_run(const Float* values, int64_t count, Word exponent) {
  static_assert(sizeof(Word) == sizeof(Float));
  Word bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    bad |= static_cast<Word>((std::bit_cast<Word>(values[i]) & exponent) == exponent);
  }
  return bad == 0;
}

template <typename Word, typename Float>
bool finite(const Tensor& x, Word exponent) {
  const Float* values = x.const_data_ptr<Float>();
  constexpr int64_t kBlock = 1 << 16;
  std::atomic<bool> good = true;
  at::parallel_for(0, x.numel(), kBlock, [&](int64_t begin, int64_t end) {
    for (; begin < end && good.load(std::memory_order_relaxed); begin += kBlock) {
      if (!finite_run<Word>(values + begin, std::min(kBlock, end - begin), exponent)) good = false;
    }
  });
  return good;
}

}  // namespace

bool all_finite(const Tensor& x) {
  if (!x.device().is_cpu()) return at::isfinite(x).all().item<bool>();
  if (!x.is_contiguous()) return all_finite(x.contiguous());
  switch (x.scalar_type()) {
    case at::kDouble:
      return finite<uint64_t, double>(x, 0x7FF0'0000'0000'0000);
    case at::kFloat:
      return finite<uint32_t, float>(x, 0x7F80'0000);
    case at::kHalf:
      return finite<uint16_t, at::Half>(x, 0x7C00);
    case at::kBFloat16:
      return finite<uint16_t, at::BFloat16>(x, 0x7F80);
    default:
      TORCH_CHECK(false, "no floating-point tensor: ", x.scalar_type());
  }
}

}  // namespace easel
