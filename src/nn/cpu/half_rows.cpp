#include "nn/cpu/half_rows.h"

#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

#if defined(__x86_64__)
constexpr int64_t kLanes = 16;

EASEL_AVX512 void widen_lanes(const at::Half* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    _mm512_storeu_ps(to + i, _mm512_maskz_cvtph_ps(0xFFFF, half));
  }
}
EASEL_AVX512 void stream_lanes(const float* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes) _mm512_stream_ps(to + i, _mm512_loadu_ps(from + i));
}
EASEL_AVX512 void stream_lanes(const float* from, int64_t count, float scale, at::Half* to) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(from + i), factor);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm512_maskz_cvtps_ph(0xFFFF, scaled, _MM_FROUND_TO_NEAREST_INT));
  }
}
#else
void widen_lanes(const at::Half*, int64_t, float*) {}
void stream_lanes(const float*, int64_t, float*) {}
void stream_lanes(const float*, int64_t, float, at::Half*) {}
#endif

}  // namespace

// Without AVX512 the tests alone come here.
void widen_row(const at::Half* from, int64_t count, float* to) {
  if (has_avx512())
    widen_lanes(from, count, to);
  else
    std::copy_n(from, count, to);
}
void stream_row(const float* from, int64_t count, float* to) {
  if (has_avx512())
    stream_lanes(from, count, to);
  else
    std::copy_n(from, count, to);
}
void stream_row(const float* from, int64_t count, float scale, at::Half* to) {
  if (has_avx512()) return stream_lanes(from, count, scale, to);
  for (int64_t i = 0; i < count; ++i) to[i] = from[i] * scale;
}

}  // namespace easel::cpu
