#include "nn/cpu/amx_heads.h"

#include "nn/cpu/turn.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu::amx {

#if defined(__x86_64__)
namespace {

constexpr __mmask16 kAll = 0xFFFF;  // without a mask GCC 12 warns of values that are never read (GCC bug 105593)

// Of kSide or kTileRows values, those that there are.
__mmask32 mask_of(int64_t left) { return left >= kSide ? 0xFFFFFFFFu : left <= 0 ? 0 : (1u << left) - 1; }

EASEL_AVX512_BF16 __m512i widen_pair(const BF16* row, __mmask16 mask) {
  return _mm512_maskz_cvtepu16_epi32(kAll, _mm256_maskz_loadu_epi16(mask, row));
}

// Two values side by side, for 16 columns.
EASEL_AVX512_BF16 void interleave(const BF16* first, const BF16* second, __mmask16 mask, BF16* to) {
  const __m512i low = widen_pair(first, mask);
  const __m512i high = second == nullptr ? _mm512_setzero_si512() : widen_pair(second, mask);
  _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_maskz_slli_epi32(kAll, high, 16)));
}

}  // namespace

void PackedHead::pack(const Rows<BF16>& k, const Rows<BF16>& v) {
  for (int64_t first = 0; first < s_.keys; first += kSide) {
    pack_keys(k, first);
    pack_values(v, first);
  }
}

void PackedHead::pack_keys(const Rows<BF16>& k, int64_t first) {
  BF16* to = keys_ + first / kSide * s_.steps() * 2 * kTile;
  const int64_t count = std::min(kSide, s_.keys - first);
  if (count < kSide || s_.width % kSide != 0) std::fill_n(to, s_.steps() * 2 * kTile, BF16());
  for (int64_t i = 0; i < s_.width; i += kSide) {
    for (int64_t key = 0; key < count; key += kTileRows, to += kTile)
      turn({.from = &k.at(first + key)[i].x,
            .to = reinterpret_cast<uint32_t*>(to),
            .pairs = std::min(kSide, s_.width - i) / 2,
            .columns = std::min(kTileRows, count - key),
            .stride = kTileRows,
            .pitch = k.stride / 2,
            .streams = false});
    if (count <= kTileRows) to += kTile;
  }
}

void PackedHead::pack_values(const Rows<BF16>& v, int64_t first) {
  BF16* to = values_ + first / kSide * s_.columns() * kTile;
  for (int64_t column = 0; column < s_.columns(); ++column) {
    const int64_t from = column * kTileRows;
    const auto mask = static_cast<__mmask16>(mask_of(s_.width - from));
    for (int64_t n = first; n < first + kSide; n += 2, to += kSide) {
      if (n >= s_.keys) {
        std::fill_n(to, kSide, BF16());
        continue;
      }
      interleave(v.at(n) + from, n + 1 < s_.keys ? v.at(n + 1) + from : nullptr, mask, to);
      if (column + 1 < s_.columns()) continue;
      to[2 * (s_.width - from)] = 1.0f;
      to[2 * (s_.width - from) + 1] = n + 1 < s_.keys ? 1.0f : 0.0f;
    }
  }
}

EASEL_AVX512_BF16 void pack_queries(const Rows<BF16>& q, int64_t count, const HeadShape& s, BF16* to) {
  for (int64_t i = 0; i < s.width; i += kSide) {
    const __mmask32 mask = mask_of(s.width - i);
    for (int64_t r = 0; r < kSide; ++r, to += kSide)
      _mm512_storeu_si512(to, r < count ? _mm512_maskz_loadu_epi16(mask, q.at(r) + i) : _mm512_setzero_si512());
  }
}

EASEL_AVX512_BF16 void store_queries(const float* sums, const float* total, int64_t count, const HeadShape& s,
                                     BF16* out, int64_t stride) {
  const float* weights = sums + s.width / kTileRows * kTile + s.width % kTileRows;
  for (int64_t r = 0; r < count; ++r, out += stride, sums += kTileRows) {
    const __m512 share = _mm512_set1_ps(1 / (weights[r * kTileRows] + total[r]));
    for (int64_t i = 0; i < s.width; i += kTileRows) {
      const __m512 value = _mm512_mul_ps(_mm512_loadu_ps(sums + i / kTileRows * kTile), share);
      _mm256_mask_storeu_epi16(out + i, static_cast<__mmask16>(mask_of(s.width - i)),
                               (__m256i)_mm512_cvtneps_pbh(value));
    }
  }
}
#else
void PackedHead::pack(const Rows<BF16>&, const Rows<BF16>&) {}
void pack_queries(const Rows<BF16>&, int64_t, const HeadShape&, BF16*) {}
void store_queries(const float*, const float*, int64_t, const HeadShape&, BF16*, int64_t) {}
#endif

}  // namespace easel::cpu::amx
