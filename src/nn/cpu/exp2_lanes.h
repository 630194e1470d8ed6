// Powers of two of sixteen values, for processors with AVX512, where a number's fraction and a power of two are one
// instruction each.
#pragma once

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace easel::cpu {

// Of 2^x over [0, 1), because the instruction that scales takes the exponent's floor.
constexpr float kCubic[] = {0.999925196f, 0.695833564f, 0.226067156f, 0.0780245215f};

// To 7.5e-5 relative: enough for what is rounded to bfloat16.
EASEL_AVX512 EASEL_INLINE __m512 exp2_by_cubic(__m512 x) {
  constexpr __mmask16 kAll = 0xFFFF;  // without a mask GCC 12 warns of values that are never read (GCC bug 105593)
  const __m512 f = _mm512_maskz_reduce_ps(kAll, x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(kCubic[3]), f, _mm512_set1_ps(kCubic[2]));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kCubic[1]));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(kCubic[0]));
  return _mm512_maskz_scalef_ps(kAll, p, x);
}

}  // namespace easel::cpu
#endif
