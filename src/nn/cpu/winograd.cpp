#include "nn/cpu/winograd.h"

#include <ATen/Parallel.h>

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/products.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

constexpr int64_t kTile = 4, kPatch = 6, kPlanes = kPatch * kPatch;  // a tile of results needs a patch of the input
constexpr int64_t kColumns = 64;                                     // output channels of one product
constexpr int64_t kChunk = 64;                                       // channels that are transformed at once

// ---- transforms ---------------------------------------------------------------------------------------------------

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

// The filter's values at the points, over M'(p).
EASEL_INLINE Six of_filter(float g0, float g1, float g2) {
  constexpr float kNear = 1 / (2 * kA2 * (kA2 - kB2)), kFar = 1 / (2 * kB2 * (kB2 - kA2));
  const float near = kNear * g0 + kNear * kA2 * g2, near_odd = kNear * kA * g1;
  const float far = kFar * g0 + kFar * kB2 * g2, far_odd = kFar * kB * g1;
  return {{g0 / (kA2 * kB2), near + near_odd, near - near_odd, far + far_odd, far - far_odd, g2}};
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

// Both directions of one patch. pixels: the patch's 36, each with its channels behind it; planes: [36] × stride.
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

// The results of one tile, `count` ≤ kChunk channels: planes [36] × stride → out [16][kChunk], the weight's scale taken
// off and shift added.
EASEL_CLONES void transform_products(const float* planes, int64_t stride, float unscale, const float* shift,
                                     int64_t count, float (*out)[kChunk]) {
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
      out[4 * i][c] = f.v[0] * unscale + shift[c];
      out[4 * i + 1][c] = f.v[1] * unscale + shift[c];
      out[4 * i + 2][c] = f.v[2] * unscale + shift[c];
      out[4 * i + 3][c] = f.v[3] * unscale + shift[c];
    }
  }
}

#define EASEL_STORE_PIXEL(T)                                                                   \
  EASEL_CLONES void store_pixel(const float* values, const T* residual, int64_t count, T* y) { \
    if (residual == nullptr) {                                                                 \
      for (int64_t c = 0; c < count; ++c) y[c] = narrow<T>(values[c]);                         \
    } else {                                                                                   \
      for (int64_t c = 0; c < count; ++c) y[c] = narrow<T>(values[c] + widen(residual[c]));    \
    }                                                                                          \
  }
EASEL_STORE_PIXEL(float)
EASEL_STORE_PIXEL(at::BFloat16)
#undef EASEL_STORE_PIXEL

// filters: [9][kColumns] → planes [36][kColumns].
EASEL_CLONES void transform_filters(const float (*filters)[kColumns], int64_t count, float (*planes)[kColumns]) {
  float half[kPatch * 3][kColumns];
  for (int64_t j = 0; j < 3; ++j) {
    for (int64_t n = 0; n < count; ++n) {
      const Six s = of_filter(filters[j][n], filters[3 + j][n], filters[6 + j][n]);
      for (int64_t i = 0; i < kPatch; ++i) half[3 * i + j][n] = s.v[i];
    }
  }
  for (int64_t i = 0; i < kPatch; ++i) {
    for (int64_t n = 0; n < count; ++n) {
      const Six s = of_filter(half[3 * i][n], half[3 * i + 1][n], half[3 * i + 2][n]);
      for (int64_t j = 0; j < kPatch; ++j) planes[6 * i + j][n] = s.v[j];
    }
  }
}

// ---- the weight's form --------------------------------------------------------------------------------------------

#if defined(__x86_64__)
#define EASEL_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
constexpr int64_t kLanes = 16;  // count is a multiple of it, as can_winograd() sees to

EASEL_AVX512 void widen_lanes(const at::Half* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    _mm512_storeu_ps(to + i, _mm512_maskz_cvtph_ps(0xFFFF, half));
  }
}
EASEL_AVX512 void narrow_lanes(const float* from, int64_t count, float scale, at::Half* to) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < count; i += kLanes) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(from + i), factor);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm512_maskz_cvtps_ph(0xFFFF, scaled, _MM_FROUND_TO_NEAREST_INT));
  }
}
#else
void widen_lanes(const at::Half*, int64_t, float*) {}
void narrow_lanes(const float*, int64_t, float, at::Half*) {}
#endif

// Without AVX512 the tests alone come here.
void widen_row(const at::Half* from, int64_t count, float* to) {
  if (has_avx512())
    widen_lanes(from, count, to);
  else
    std::copy_n(from, count, to);
}
void narrow_row(const float* from, int64_t count, float scale, at::Half* to) {
  if (has_avx512()) return narrow_lanes(from, count, scale, to);
  for (int64_t i = 0; i < count; ++i) to[i] = from[i] * scale;
}
void narrow_row(const float* from, int64_t count, float, float* to) { std::copy_n(from, count, to); }

// What the transformed filters are kept in.
template <class T>
using Kept = std::conditional_t<std::is_same_v<T, float>, float, at::Half>;

// No transformed filter is larger than twice the largest of its weights.
float half_scale(const Tensor& weight) {
  constexpr int kTop = 15;  // float16 ends at 2^16
  const auto [least, most] = at::aminmax(weight);
  const float largest = 2 * std::max(-least.item<float>(), most.item<float>());
  if (!std::isfinite(largest) || largest == 0) return 1;
  return std::ldexp(1.0f, std::clamp(kTop - 1 - std::ilogb(largest), -126, 126));
}

template <class T>
void transform_weight(const Tensor& filters, float scale, Kept<T>* to) {
  const int64_t out = filters.size(0), in = filters.size(1), blocks = (out + kColumns - 1) / kColumns;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t columns = std::min(kColumns, out - block * kColumns);
      // [columns, in·9] → [in·9, columns]: a channel's filters side by side
      const Tensor turned =
          filters.narrow(0, block * kColumns, columns).reshape({columns, in * 9}).t().to(at::kFloat).contiguous();
      const float* from = turned.const_data_ptr<float>();
      float one[9][kColumns], planes[kPlanes][kColumns];
      for (int64_t c = 0; c < in; ++c) {
        for (int64_t k = 0; k < 9; ++k) std::copy_n(from + (9 * c + k) * columns, columns, one[k]);
        transform_filters(one, columns, planes);
        for (int64_t p = 0; p < kPlanes; ++p)
          narrow_row(planes[p], columns, scale, to + p * in * out + block * kColumns * in + c * columns);
      }
    }
  });
}

// ---- the convolution ----------------------------------------------------------------------------------------------

struct Sizes {
  int64_t batch, in, out, height, width;
  int64_t rows() const { return (height + kTile - 1) / kTile; }  // of tiles
  int64_t columns() const { return (width + kTile - 1) / kTile; }
  int64_t tiles() const { return batch * rows() * columns(); }
  int64_t column_blocks() const { return (out + kColumns - 1) / kColumns; }
  int64_t columns_in(int64_t block) const { return std::min(kColumns, out - block * kColumns); }
};

// Where the results' rows and columns lie in the input: nearest neighbour, as ATen rounds.
std::vector<int64_t> places(int64_t from, int64_t to) {
  std::vector<int64_t> place(static_cast<std::size_t>(to));
  const float scale = static_cast<float>(from) / static_cast<float>(to);
  for (int64_t i = 0; i < to; ++i) {
    const auto nearest = static_cast<int64_t>(std::floor(static_cast<float>(i) * scale));
    place[static_cast<std::size_t>(i)] = from == to ? i : 2 * from == to ? i / 2 : std::min(nearest, from - 1);
  }
  return place;
}

template <class T>
class Convolution {
 public:
  Convolution(const Sizes& s, const Tensor& x, const WinogradWeight& weight, const WinogradAdded& added, Tensor& y)
      : s_(s),
        x_(x.const_data_ptr<T>()),
        row_of_(places(x.size(2), s.height)),
        column_of_(places(x.size(3), s.width)),
        x_height_(x.size(2)),
        x_width_(x.size(3)),
        weight_(weight.planes.const_data_ptr<Kept<T>>()),
        unscale_(1 / weight.scale),
        shift_(added.shift.const_data_ptr<float>()),
        shift_stride_(added.shift.size(0) == 1 ? 0 : s.out),
        residual_(added.residual.defined() ? added.residual.const_data_ptr<T>() : nullptr),
        y_(y.mutable_data_ptr<T>()),
        zeros_(static_cast<std::size_t>(s.in)) {}

  void run() {
    constexpr int64_t kFloats = 4 << 20;  // of transformed input and products, in the third-level cache or near it
    const int64_t most = std::max<int64_t>(64, kFloats / (kPlanes * (s_.in + s_.out)));
    const int64_t parts = (s_.tiles() + most - 1) / most, step = (s_.tiles() + parts - 1) / parts;
    input_ = at::empty({kPlanes * step * s_.in}, at::kFloat);
    products_ = at::empty({kPlanes * step * s_.out}, at::kFloat);
    for (int64_t first = 0; first < s_.tiles(); first += step) {
      const int64_t count = std::min(step, s_.tiles() - first);
      at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) read_tile(first + t, t, count);
      });
      multiply(count);
      at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) write_tile(first + t, t, count);
      });
    }
  }

 private:
  struct Place {
    int64_t batch, top, left;
  };
  Place place_of(int64_t tile) const {
    const int64_t per_picture = s_.rows() * s_.columns(), inside = tile % per_picture;
    return {tile / per_picture, inside / s_.columns() * kTile, inside % s_.columns() * kTile};
  }

  void read_tile(int64_t tile, int64_t place, int64_t tiles) {
    const Place p = place_of(tile);
    const T* pixels[kPlanes];
    for (int64_t i = 0; i < kPatch; ++i) {
      const int64_t row = p.top + i - 1;
      for (int64_t j = 0; j < kPatch; ++j) {
        const int64_t column = p.left + j - 1;
        const bool inside = row >= 0 && row < s_.height && column >= 0 && column < s_.width;
        pixels[6 * i + j] = inside ? pixel(p.batch, row, column) : zeros_.data();
      }
    }
    transform_patch(pixels, s_.in, input_.mutable_data_ptr<float>() + place * s_.in, tiles * s_.in);
  }

  const T* pixel(int64_t batch, int64_t row, int64_t column) const {
    const int64_t y = row_of_[static_cast<std::size_t>(row)], x = column_of_[static_cast<std::size_t>(column)];
    return x_ + ((batch * x_height_ + y) * x_width_ + x) * s_.in;
  }

  static const float* as_floats(const float* kept, int64_t, std::vector<float>&) { return kept; }
  static const float* as_floats(const at::Half* kept, int64_t count, std::vector<float>& wide) {
    widen_row(kept, count, wide.data());
    return wide.data();
  }

  void multiply(int64_t tiles) {
    const int64_t blocks = s_.column_blocks();
    const float* input = input_.const_data_ptr<float>();
    float* products = products_.mutable_data_ptr<float>();
    at::parallel_for(0, kPlanes * blocks, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> wide(std::is_same_v<Kept<T>, float> ? 0 : static_cast<std::size_t>(s_.in * kColumns));
      for (int64_t task = begin; task < end; ++task) {
        const int64_t plane = task / blocks, block = task % blocks, columns = s_.columns_in(block);
        const ProductSizes sizes{tiles, columns, s_.in, s_.in, columns, s_.out};
        const Kept<T>* kept = weight_ + (plane * s_.out + block * kColumns) * s_.in;
        cpu::multiply(sizes, input + plane * tiles * s_.in, as_floats(kept, s_.in * columns, wide),
                      products + plane * tiles * s_.out + block * kColumns, /*adds=*/false);
      }
      release_products();
    });
  }

  void write_tile(int64_t tile, int64_t place, int64_t tiles) {
    const Place p = place_of(tile);
    const int64_t rows = std::min(kTile, s_.height - p.top), columns = std::min(kTile, s_.width - p.left);
    float values[kTile * kTile][kChunk];
    for (int64_t first = 0; first < s_.out; first += kChunk) {
      const int64_t count = std::min(kChunk, s_.out - first);
      transform_products(products_.const_data_ptr<float>() + place * s_.out + first, tiles * s_.out, unscale_,
                         shift_ + p.batch * shift_stride_ + first, count, values);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          const int64_t at = ((p.batch * s_.height + p.top + i) * s_.width + p.left + j) * s_.out + first;
          store_pixel(values[4 * i + j], residual_ == nullptr ? nullptr : residual_ + at, count, y_ + at);
        }
      }
    }
  }

  const Sizes s_;
  const T* x_;
  const std::vector<int64_t> row_of_, column_of_;
  const int64_t x_height_, x_width_;
  const Kept<T>* weight_;
  const float unscale_;
  const float* shift_;
  const int64_t shift_stride_;
  const T* residual_;
  T* y_;
  const std::vector<T> zeros_;
  Tensor input_, products_;  // [36, tiles, in], [36, tiles, out]
};

}  // namespace

bool can_winograd(at::IntArrayRef weight, at::ScalarType dtype, Coarsest coarsest) {
  constexpr int64_t kFewest = 64, kMost = 1920 * 640, kMostOfLarge = 2560 * 1280;  // channels; in · out
  if (weight.size() != 4 || weight[2] != 3 || weight[3] != 3 || !has_avx512()) return false;
  const int64_t out = weight[0], in = weight[1];
  // float32's would take twice the memory for half the gain.
  const int64_t most = coarsest == Coarsest::kLarge && dtype == at::kBFloat16 ? kMostOfLarge : kMost;
  const bool pays = dtype == at::kFloat || (dtype == at::kBFloat16 && !has_amx_bf16());
  return pays && std::min(in, out) >= kFewest && in % 16 == 0 && out % 16 == 0 && in * out <= most;
}

int64_t winograd_bytes(at::IntArrayRef weight, at::ScalarType dtype) {
  return kPlanes * weight[0] * weight[1] * static_cast<int64_t>(c10::elementSize(dtype));
}

WinogradWeight winograd_weight(const Tensor& weight) {
  const bool is_float = weight.scalar_type() == at::kFloat;
  WinogradWeight w{.planes = at::empty({kPlanes * weight.size(1) * weight.size(0)}, is_float ? at::kFloat : at::kHalf),
                   .scale = is_float ? 1 : half_scale(weight)};
  if (is_float)
    transform_weight<float>(weight.contiguous(), w.scale, w.planes.mutable_data_ptr<float>());
  else
    transform_weight<at::BFloat16>(weight.contiguous(), w.scale, w.planes.mutable_data_ptr<at::Half>());
  return w;
}

Tensor winograd_convolution(const Tensor& x, const WinogradWeight& weight, const WinogradAdded& added, int64_t height,
                            int64_t width) {
  const Sizes s{x.size(0), x.size(1), added.shift.size(1), height, width};
  const Tensor input = x.contiguous(at::MemoryFormat::ChannelsLast);
  WinogradAdded more = added;
  if (more.residual.defined()) more.residual = more.residual.contiguous(at::MemoryFormat::ChannelsLast);
  TORCH_CHECK(weight.planes.numel() == kPlanes * s.in * s.out, "Winograd weight of ", weight.planes.numel(), " for ",
              x.sizes());
  Tensor y = at::empty({s.batch, s.out, height, width}, x.options(), at::MemoryFormat::ChannelsLast);
  if (x.scalar_type() == at::kFloat)
    Convolution<float>(s, input, weight, more, y).run();
  else
    Convolution<at::BFloat16>(s, input, weight, more, y).run();
  return y;
}

}  // namespace easel::cpu
