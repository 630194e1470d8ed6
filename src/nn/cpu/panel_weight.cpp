#include <ATen/Parallel.h>

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

// [out, in] by panels. rows(first, count, room) are some of the weight's rows one behind the other, made in the room or
// where they lie.
template <class Rows>
Tensor pack_by(int64_t out, int64_t in, at::ScalarType dtype, const Rows& rows) {
  Tensor packed = at::empty({out, in}, dtype);
  auto* target = static_cast<uint32_t*>(packed.mutable_data_ptr());
  at::parallel_for(0, (out + kPanelColumns - 1) / kPanelColumns, 1, [&](int64_t begin, int64_t end) {
    std::vector<uint16_t> room(static_cast<std::size_t>(kSide * in));
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kPanelColumns, columns = std::min(kPanelColumns, out - first);
      for (int64_t column = 0; column < columns; column += kSide) {
        const int64_t count = std::min(kSide, columns - column);
        turn({rows(first + column, count, room.data()), target + first * in / 2 + column, in / 2, count, columns});
      }
    }
    finish_streams();
  });
  return packed;
}

EASEL_CLONES void narrow_values(const at::Half* from, int64_t count, at::BFloat16* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = narrow<at::BFloat16>(widen(from[i]));
}

// A filter [in, places] as a row of a linear of patches, [places, in].
void lay_places_outside(const uint16_t* filter, int64_t in, int64_t places, uint16_t* row) {
  for (int64_t place = 0; place < places; ++place) {
    for (int64_t channel = 0; channel < in; ++channel) *row++ = filter[channel * places + place];
  }
}

}  // namespace

Tensor pack_panels(const Tensor& weight, at::ScalarType dtype) {
  const int64_t out = weight.size(0), in = weight.size(1);
  const Tensor from = weight.contiguous();
  if (weight.scalar_type() == at::kHalf && dtype == at::kBFloat16 && pair_unit() == PairUnit::kAvx512) {
    const auto* halves = from.const_data_ptr<at::Half>();
    return pack_by(out, in, dtype, [&](int64_t row, int64_t count, uint16_t* room) {
      narrow_values(halves + row * in, count * in, reinterpret_cast<at::BFloat16*>(room));
      return room;
    });
  }
  const auto* values = static_cast<const uint16_t*>(from.const_data_ptr());
  return pack_by(out, in, weight.scalar_type(), [&](int64_t row, int64_t, uint16_t*) { return values + row * in; });
}

Tensor pack_panel_convolution(const Tensor& weight) {
  const int64_t out = weight.size(0), in = weight.size(1), places = weight.size(2) * weight.size(3);
  const Tensor from = weight.contiguous();
  const auto* filters = static_cast<const uint16_t*>(from.const_data_ptr());
  return pack_by(out, in * places, weight.scalar_type(), [&](int64_t row, int64_t count, uint16_t* room) {
    for (int64_t r = 0; r < count; ++r)
      lay_places_outside(filters + (row + r) * in * places, in, places, room + r * in * places);
    return room;
  });
}

}  // namespace easel::cpu
