#include "nn/cpu/turn.h"

#include <cstring>

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

constexpr int64_t kSide = 16;  // pairs in a cache line

void turn_any(const Turned& t, int64_t column, int64_t column_end, int64_t pair, int64_t pair_end) {
  for (int64_t p = pair; p < pair_end; ++p) {
    for (int64_t c = column; c < column_end; ++c)
      std::memcpy(t.to + p * t.stride + c, t.from + 2 * (c * t.pitch + p), sizeof *t.to);
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
  const bool streams = t.streams && t.stride % kSide == 0;
  __m512i a[kSide], b[kSide];
  for (int64_t i = 0; i < kSide; ++i) a[i] = _mm512_loadu_si512(t.from + 2 * ((column + i) * t.pitch + pair));
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
    for (int64_t q = 0; q < 4; ++q) put(t.to + (pair + 4 * q + r) * t.stride + column, of_pairs[q], streams);
  }
}

constexpr int64_t kHalf = 8;

EASEL_AVX2 EASEL_INLINE void put(uint32_t* to, __m256i values, bool streams) {
  if (streams)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), values);
  else
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), values);
}

// kHalf columns by kHalf pairs: columns two by two, then four by four.
EASEL_AVX2 EASEL_INLINE void turn_quarter(const Turned& t, int64_t column, int64_t pair, bool streams) {
  __m256i a[kHalf], b[kHalf];
  for (int64_t i = 0; i < kHalf; ++i)
    a[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.from + 2 * ((column + i) * t.pitch + pair)));
  for (int64_t i = 0; i < kHalf; i += 2) {
    b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int64_t i = 0; i < kHalf; i += 4) {
    for (int64_t j = 0; j < 2; ++j) {
      a[i + 2 * j] = _mm256_unpacklo_epi64(b[i + j], b[i + j + 2]);
      a[i + 2 * j + 1] = _mm256_unpackhi_epi64(b[i + j], b[i + j + 2]);
    }
  }
  // a[4q + r]: pairs r and 4 + r of columns 4q to 4q + 3
  constexpr int kLow = 0x20, kHigh = 0x31;
  uint32_t* to = t.to + pair * t.stride + column;
  for (int64_t r = 0; r < 4; ++r) {
    put(to + r * t.stride, _mm256_permute2x128_si256(a[r], a[4 + r], kLow), streams);
    put(to + (4 + r) * t.stride, _mm256_permute2x128_si256(a[r], a[4 + r], kHigh), streams);
  }
}

// A line's two halves soon after one another.
EASEL_AVX2 void turn_square_by_quarters(const Turned& t, int64_t column, int64_t pair) {
  const bool streams = t.streams && t.stride % kSide == 0;
  for (int64_t p = pair; p < pair + kSide; p += kHalf) {
    turn_quarter(t, column, p, streams);
    turn_quarter(t, column + kHalf, p, streams);
  }
}
#endif

using TurnSquare = void (*)(const Turned&, int64_t column, int64_t pair);
TurnSquare find_turn_square() {
#if defined(__x86_64__)
  if (has_avx512()) return turn_square;
  if (has_avx2()) return turn_square_by_quarters;
#endif
  return nullptr;
}

}  // namespace

void turn(const Turned& t) {
  const TurnSquare square = find_turn_square();
  const int64_t pairs = square != nullptr ? t.pairs / kSide * kSide : 0, columns = t.columns / kSide * kSide;
  for (int64_t column = 0; column < columns; column += kSide) {
    for (int64_t pair = 0; pair < pairs; pair += kSide) square(t, column, pair);
  }
  turn_any(t, 0, columns, pairs, t.pairs);
  turn_any(t, columns, t.columns, 0, t.pairs);
}

}  // namespace easel::cpu
