#include "nn/cpu/amx_weight.h"

#include <ATen/Parallel.h>

#include <atomic>

#include "nn/cpu/amx_products.h"
#include "nn/cpu/half_rows.h"
#include "nn/cpu/products.h"
#include "nn/cpu/turn.h"

namespace easel::cpu::amx {

bool can_pack(int64_t in, int64_t out) { return pair_unit() == PairUnit::kAmx && in % kSide == 0 && out % kSide == 0; }

namespace {

constexpr int64_t kPairs = kSide / 2;  // of a block's depth

// Half a panel's columns.
class HalfPanel {
 public:
  HalfPanel(int64_t in, int64_t places, bool is_half)
      : in_(in),
        places_(places),
        is_half_(is_half),
        values_(static_cast<std::size_t>(is_half ? kTileRows * in * places : 0)) {
    if (places > 1) sorted_.resize(static_cast<std::size_t>(kTileRows * kSide * places));
  }

  // columns: [16, in, places]; to: this half of the panel's first tile. Whether they are finite.
  bool pack(const uint16_t* columns, uint16_t* to) {
    const int64_t count = kTileRows * in_ * places_;
    const bool finite =
        is_half_ ? narrow_values(columns, count, values_.data()) : are_finite(columns, count, kBFloat16Exponent);
    const uint16_t* from = is_half_ ? values_.data() : columns;
    for (int64_t block = 0; block < in_ / kSide; ++block, to += 2 * kTile * places_) {
      if (places_ == 1)
        put(from + block * kSide, in_ / 2, to);
      else
        put_sorted(from + block * kSide * places_, to);
    }
    return finite;
  }

 private:
  static void put(const uint16_t* from, int64_t pitch, uint16_t* to) {
    turn({.from = from,
          .to = reinterpret_cast<uint32_t*>(to),
          .pairs = kPairs,
          .columns = kTileRows,
          .stride = kTileRows,
          .pitch = pitch});
  }

  // The channels of a place side by side, of 3x3 places.
  void put_sorted(const uint16_t* from, uint16_t* to) {
    for (int64_t column = 0; column < kTileRows; ++column) {
      const uint16_t* values = from + column * in_ * kTaps;
      uint16_t* sorted = sorted_.data() + column * kSide;
      for (int64_t c = 0; c < kSide; ++c, values += kTaps) {
        for (int64_t place = 0; place < kTaps; ++place) sorted[place * kTile + c] = values[place];
      }
    }
    for (int64_t place = 0; place < kTaps; ++place) put(sorted_.data() + place * kTile, kPairs, to + 2 * place * kTile);
  }

  const int64_t in_, places_;
  const bool is_half_;
  std::vector<uint16_t> values_, sorted_;  // [16, in, places]; [places, 16, 32]
};

}  // namespace

PackedPanels pack_weight(const Tensor& weight) {
  const bool is_half = weight.scalar_type() == at::kHalf;
  const Tensor whole = weight.contiguous();
  const int64_t out = whole.size(0), in = whole.size(1), depth = whole.numel() / out;
  TORCH_CHECK(depth == in || depth == kTaps * in, "tiles of a weight ", weight.sizes());
  const auto* from = static_cast<const uint16_t*>(whole.const_data_ptr());
  Tensor packed = at::empty({out, depth}, at::kBFloat16);
  auto* to = static_cast<uint16_t*>(packed.mutable_data_ptr());
  std::atomic<bool> finite = true;
  at::parallel_for(0, out / kSide, 1, [&](int64_t begin, int64_t end) {
    HalfPanel half(in, depth / in, is_half);
    for (int64_t first = begin * kSide; first < end * kSide; first += kTileRows) {
      const uint16_t* columns = from + first * depth;
      if (!half.pack(columns, to + first / kSide * kSide * depth + first % kSide / kTileRows * kTile)) finite = false;
    }
    finish_streams();
  });
  return {packed, finite};
}

}  // namespace easel::cpu::amx
