#include <ATen/Parallel.h>

#include <atomic>
#include <cstring>

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/panels.h"
#include "nn/cpu/products.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

constexpr int64_t kSide = 16;  // pairs in a cache line

// Pair p of column c, from[2 · (c · pairs + p)] and the next, to to[p · stride + c]. A file's values lie at any even
// address.
struct Turned {
  const uint16_t* from;
  uint32_t* to;
  int64_t pairs, columns, stride;
  bool streams = stride % kSide == 0;
};

void turn_any(const Turned& t, int64_t column, int64_t column_end, int64_t pair, int64_t pair_end) {
  for (int64_t p = pair; p < pair_end; ++p) {
    for (int64_t c = column; c < column_end; ++c)
      std::memcpy(t.to + p * t.stride + c, t.from + 2 * (c * t.pairs + p), sizeof *t.to);
  }
}

#if defined(__x86_64__)
// Past the caches, if the address is a line's: what is packed is not read soon.
EASEL_AVX512 EASEL_INLINE void put(uint32_t* to, __m512i values, bool streams) {
  if (streams)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), values);
  else
    _mm512_storeu_si512(to, values);
}

// kSide columns by kSide pairs, in registers: columns two by two, then four by four, then their quarters.
EASEL_AVX512 void turn_square(const Turned& t, int64_t column, int64_t pair) {
  __m512i a[kSide], b[kSide];
  for (int64_t i = 0; i < kSide; ++i) a[i] = _mm512_loadu_si512(t.from + 2 * ((column + i) * t.pairs + pair));
  for (int64_t i = 0; i < kSide; i += 2) {
    b[i] = _mm512_maskz_unpacklo_epi32(0xFFFF, a[i], a[i + 1]);
    b[i + 1] = _mm512_maskz_unpackhi_epi32(0xFFFF, a[i], a[i + 1]);
  }
  for (int64_t i = 0; i < kSide; i += 4) {
    for (int64_t j = 0; j < 2; ++j) {
      a[i + 2 * j] = _mm512_maskz_unpacklo_epi64(0xFF, b[i + j], b[i + j + 2]);
      a[i + 2 * j + 1] = _mm512_maskz_unpackhi_epi64(0xFF, b[i + j], b[i + j + 2]);
    }
  }
  // a[4q + r]: pairs r, 4 + r, 8 + r, 12 + r of columns 4q to 4q + 3
  constexpr int kEven = 0x88, kOdd = 0xDD;
  for (int64_t r = 0; r < 4; ++r) {
    const __m512i low_even = _mm512_maskz_shuffle_i32x4(0xFFFF, a[r], a[4 + r], kEven),
                  low_odd = _mm512_maskz_shuffle_i32x4(0xFFFF, a[r], a[4 + r], kOdd),
                  high_even = _mm512_maskz_shuffle_i32x4(0xFFFF, a[8 + r], a[12 + r], kEven),
                  high_odd = _mm512_maskz_shuffle_i32x4(0xFFFF, a[8 + r], a[12 + r], kOdd);
    const __m512i of_pairs[4] = {_mm512_maskz_shuffle_i32x4(0xFFFF, low_even, high_even, kEven),
                                 _mm512_maskz_shuffle_i32x4(0xFFFF, low_odd, high_odd, kEven),
                                 _mm512_maskz_shuffle_i32x4(0xFFFF, low_even, high_even, kOdd),
                                 _mm512_maskz_shuffle_i32x4(0xFFFF, low_odd, high_odd, kOdd)};
    for (int64_t q = 0; q < 4; ++q) put(t.to + (pair + 4 * q + r) * t.stride + column, of_pairs[q], t.streams);
  }
}
#else
void turn_square(const Turned& t, int64_t column, int64_t pair) {
  turn_any(t, column, column + kSide, pair, pair + kSide);
}
#endif

void turn(const Turned& t) {
  const int64_t pairs = has_avx512() ? t.pairs / kSide * kSide : 0, columns = t.columns / kSide * kSide;
  for (int64_t column = 0; column < columns; column += kSide) {
    for (int64_t pair = 0; pair < pairs; pair += kSide) turn_square(t, column, pair);
  }
  turn_any(t, 0, columns, pairs, t.pairs);
  turn_any(t, columns, t.columns, 0, t.pairs);
}

// Whether all are finite: an exponent of ones carries into the sign when its lowest bit is added.
EASEL_CLONES bool are_finite(const uint16_t* values, int64_t count, uint16_t exponent) {
  const auto lowest = static_cast<uint16_t>(0x8000 - exponent);
  uint16_t carried = 0;
  for (int64_t i = 0; i < count; ++i) carried |= static_cast<uint16_t>((values[i] & exponent) + lowest);
  return (carried & 0x8000u) == 0;
}

EASEL_CLONES void narrow_values(const uint16_t* halves, int64_t count, uint16_t* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = narrow<at::BFloat16>(widen(at::Half(halves[i], at::Half::from_bits()))).x;
}

}  // namespace

PackedPanels pack_panels(const Tensor& weight, at::ScalarType dtype) {
  const bool is_half = weight.scalar_type() == at::kHalf;
  const bool narrows = is_half && dtype == at::kBFloat16 && pair_unit() == PairUnit::kAvx512;
  const Tensor rows = weight.flatten(1).contiguous();
  const int64_t out = rows.size(0), in = rows.size(1);
  const auto* from = static_cast<const uint16_t*>(rows.const_data_ptr());
  const uint16_t exponent = is_half ? 0x7C00 : 0x7F80;
  Tensor packed = at::empty({out, in}, narrows ? at::kBFloat16 : weight.scalar_type());
  auto* to = static_cast<uint32_t*>(packed.mutable_data_ptr());
  std::atomic<bool> finite = true;
  at::parallel_for(0, (out + kPanelColumns - 1) / kPanelColumns, 1, [&](int64_t begin, int64_t end) {
    std::vector<uint16_t> narrowed(static_cast<std::size_t>(narrows ? kSide * in : 0));
    for (int64_t first = begin * kPanelColumns; first < std::min(end * kPanelColumns, out); first += kSide) {
      const int64_t panel = first / kPanelColumns * kPanelColumns, columns = std::min(kPanelColumns, out - panel),
                    count = std::min(kSide, out - first);
      const uint16_t* few = from + first * in;
      // The first to read them, in their order.
      if (!are_finite(few, count * in, exponent)) finite = false;
      if (narrows) narrow_values(few, count * in, narrowed.data());
      turn({narrows ? narrowed.data() : few, to + panel * in / 2 + first - panel, in / 2, count, columns});
    }
    finish_streams();
  });
  return {packed, finite};
}

}  // namespace easel::cpu
