#include "nn/cpu/winograd_transforms.h"

#include "easel/vector_loops.h"

namespace easel::cpu {
namespace {

// Of the points 0, ±kA, ±kB and ∞. Those that the literature uses (1 and 2) lose a digit; these lie closer together
// (Barabasz et al. 2020, arXiv 1803.10986, say why; oneDNN's first Winograd kernels had them).
constexpr float kA = 0.625f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;

struct Six {
  float v[6];
};

// Coefficients of M(x)/(x − p) at each point p, and of M(x) = x·(x² − a²)·(x² − b²).
EASEL_INLINE Six of_input(float d0, float d1, float d2, float d3, float d4, float d5) {
  const float even_a = d4 - kB2 * d2, odd_a = kA * d3 - kA * kB2 * d1;
  const float even_b = d4 - kA2 * d2, odd_b = kB * d3 - kB * kA2 * d1;
  return {{kA2 * kB2 * d0 - (kA2 + kB2) * d2 + d4, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b,
           kA2 * kB2 * d1 - (kA2 + kB2) * d3 + d5}};
}

// Not sixteen: GCC 12 copies vectors of 64 bytes in quarters where there is no AVX512.
using Eight = float __attribute__((vector_size(32), aligned(4)));
struct SixEights {
  Eight v[6];
};

// The filter's values at the points, over M'(p).
EASEL_INLINE void of_filter(const Eight& g0, const Eight& g1, const Eight& g2, SixEights& out) {
  constexpr float kNear = 1 / (2 * kA2 * (kA2 - kB2)), kFar = 1 / (2 * kB2 * (kB2 - kA2));
  const Eight near = kNear * g0 + kNear * kA2 * g2, near_odd = kNear * kA * g1;
  const Eight far = kFar * g0 + kFar * kB2 * g2, far_odd = kFar * kB * g1;
  out = {{g0 * (1 / (kA2 * kB2)), near + near_odd, near - near_odd, far + far_odd, far - far_odd, g2}};
}

struct Four {
  float v[4];
};

// Powers of the points.
EASEL_INLINE Four of_products(float m0, float m1, float m2, float m3, float m4, float m5) {
  const float sum_a = m1 + m2, difference_a = m1 - m2, sum_b = m3 + m4, difference_b = m3 - m4;
  return {{m0 + sum_a + sum_b, kA * difference_a + kB * difference_b, kA2 * sum_a + kB2 * sum_b,
           kA * kA2 * difference_a + kB * kB2 * difference_b + m5}};
}

}  // namespace

#define EASEL_TRANSFORM_PATCH(T)                                                                                      \
  EASEL_CLONES void transform_patch(const T* const* pixels, int64_t channels, float* planes, int64_t stride) {        \
    float half[kPlanes][kChunk];                                                                                      \
    for (int64_t first = 0; first < channels; first += kChunk) {                                                      \
      const int64_t count = std::min(kChunk, channels - first);                                                       \
      for (int64_t j = 0; j < kPatch; ++j) {                                                                          \
        const T *p0 = pixels[j] + first, *p1 = pixels[6 + j] + first, *p2 = pixels[12 + j] + first,                   \
                *p3 = pixels[18 + j] + first, *p4 = pixels[24 + j] + first, *p5 = pixels[30 + j] + first;             \
        for (int64_t c = 0; c < count; ++c) {                                                                         \
          const Six s = of_input(widen(p0[c]), widen(p1[c]), widen(p2[c]), widen(p3[c]), widen(p4[c]), widen(p5[c])); \
          half[j][c] = s.v[0];                                                                                        \
          half[6 + j][c] = s.v[1];                                                                                    \
          half[12 + j][c] = s.v[2];                                                                                   \
          half[18 + j][c] = s.v[3];                                                                                   \
          half[24 + j][c] = s.v[4];                                                                                   \
          half[30 + j][c] = s.v[5];                                                                                   \
        }                                                                                                             \
      }                                                                                                               \
      for (int64_t i = 0; i < kPatch; ++i) {                                                                          \
        const float(*h)[kChunk] = half + 6 * i;                                                                       \
        float *o0 = planes + 6 * i * stride + first, *o1 = o0 + stride, *o2 = o1 + stride, *o3 = o2 + stride,         \
              *o4 = o3 + stride, *o5 = o4 + stride;                                                                   \
        _Pragma("GCC ivdep") for (int64_t c = 0; c < count; ++c) {                                                    \
          const Six s = of_input(h[0][c], h[1][c], h[2][c], h[3][c], h[4][c], h[5][c]);                               \
          o0[c] = s.v[0];                                                                                             \
          o1[c] = s.v[1];                                                                                             \
          o2[c] = s.v[2];                                                                                             \
          o3[c] = s.v[3];                                                                                             \
          o4[c] = s.v[4];                                                                                             \
          o5[c] = s.v[5];                                                                                             \
        }                                                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
  }
EASEL_TRANSFORM_PATCH(float)
EASEL_TRANSFORM_PATCH(at::BFloat16)
#undef EASEL_TRANSFORM_PATCH

EASEL_CLONES void transform_products(const float* planes, int64_t stride, const float* shift, int64_t count,
                                     float (*out)[kChunk]) {
  float half[kTile * kPatch][kChunk];
  for (int64_t j = 0; j < kPatch; ++j) {
    const float *m0 = planes + j * stride, *m1 = m0 + 6 * stride, *m2 = m1 + 6 * stride, *m3 = m2 + 6 * stride,
                *m4 = m3 + 6 * stride, *m5 = m4 + 6 * stride;
    for (int64_t c = 0; c < count; ++c) {
      const Four f = of_products(m0[c], m1[c], m2[c], m3[c], m4[c], m5[c]);
      half[j][c] = f.v[0];
      half[6 + j][c] = f.v[1];
      half[12 + j][c] = f.v[2];
      half[18 + j][c] = f.v[3];
    }
  }
  for (int64_t i = 0; i < kTile; ++i) {
    const float(*h)[kChunk] = half + 6 * i;
    for (int64_t c = 0; c < count; ++c) {
      const Four f = of_products(h[0][c], h[1][c], h[2][c], h[3][c], h[4][c], h[5][c]);
      out[4 * i][c] = f.v[0] + shift[c];
      out[4 * i + 1][c] = f.v[1] + shift[c];
      out[4 * i + 2][c] = f.v[2] + shift[c];
      out[4 * i + 3][c] = f.v[3] + shift[c];
    }
  }
}

EASEL_CLONES void transform_filters(const float* filters, int64_t pitch, int64_t count, float* planes, int64_t stride) {
  constexpr int64_t kLanes = sizeof(Eight) / sizeof(float);
  for (int64_t first = 0; first < count; first += kLanes) {
    const auto at = [&](int64_t place) { return reinterpret_cast<const Eight*>(filters + place * pitch + first); };
    SixEights half[3];
    for (int j = 0; j < 3; ++j) of_filter(*at(j), *at(3 + j), *at(6 + j), half[j]);
    for (int i = 0; i < kPatch; ++i) {
      SixEights s;
      of_filter(half[0].v[i], half[1].v[i], half[2].v[i], s);
      for (int j = 0; j < kPatch; ++j) *reinterpret_cast<Eight*>(planes + (6 * i + j) * stride + first) = s.v[j];
    }
  }
}

}  // namespace easel::cpu
