#include "nn/cpu/bf16.h"

#include <ATen/Parallel.h>

#include "easel/vector_loops.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/products.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace easel::cpu {
namespace {

using BF16 = at::BFloat16;

constexpr int64_t kColumns = kBf16Columns;
constexpr int64_t kRows = 24;     // of a task, whose sums stay in the first
constexpr int64_t kChunk = 1024;  // rows that every panel passes over, in the third-level cache

#if defined(__x86_64__)
constexpr int64_t kLanes = 16;

EASEL_AVX512_BF16 EASEL_INLINE __m512 widened(__mmask16 mask, const BF16* x) {
  const __m512i bits = _mm512_maskz_cvtepu16_epi32(0xFFFF, _mm256_maskz_loadu_epi16(mask, x));
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xFFFF, bits, 16));
}

// rows × columns of y, from sums [rows][kColumns], with the bias and (where there is one) the residual, laid out as y,
// added. By instructions, because the compiler's loop took a third of a product of depth 320.
EASEL_AVX512_BF16 void finish(const float* sums, int64_t rows, int64_t columns, const BF16* bias, const BF16* residual,
                              int64_t stride, BF16* y) {
  for (int64_t first = 0; first < columns; first += kLanes) {
    const int64_t left = columns - first;
    const auto mask = static_cast<__mmask16>(left >= kLanes ? 0xFFFF : (1 << left) - 1);
    const __m512 shift = widened(mask, bias + first);
    for (int64_t r = 0; r < rows; ++r) {
      __m512 sum = _mm512_add_ps(_mm512_loadu_ps(sums + r * kColumns + first), shift);
      if (residual != nullptr) sum = _mm512_add_ps(sum, widened(mask, residual + r * stride + first));
      _mm256_mask_storeu_epi16(y + r * stride + first, mask, (__m256i)_mm512_cvtneps_pbh(sum));
    }
  }
}
#else
void finish(const float*, int64_t, int64_t, const BF16*, const BF16*, int64_t, BF16*) {}  // can_bf16() is false
#endif

EASEL_CLONES void finish_geglu(const float* value, const float* gate, const BF16* value_bias, const BF16* gate_bias,
                               BF16* y) {
  for (int64_t i = 0; i < kColumns; ++i)
    y[i] = narrow<BF16>((value[i] + widen(value_bias[i])) * gelu(gate[i] + widen(gate_bias[i])));
}

// A block's part of a row, 64 values of which lie a row apart from the next, while the products before them last.
enum Purpose { kForReading, kForWriting };
template <Purpose purpose>
void fetch(const BF16* row, int64_t columns) {
  constexpr int64_t kLine = 32;
  for (int64_t first = 0; first < columns; first += kLine) __builtin_prefetch(row + first, purpose);
}

// work(block, first row, rows), by as many threads as there are.
template <class Work>
void for_tasks(int64_t rows, int64_t blocks, const Work& work) {
  for (int64_t first = 0; first < rows; first += kChunk) {
    const int64_t count = std::min(kChunk, rows - first), parts = (count + kRows - 1) / kRows;
    at::parallel_for(0, blocks * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t row = task % parts * kRows;
        work(task / parts, first + row, std::min(kRows, count - row));
      }
    });
  }
}

struct Operands {
  Tensor x, bias;
  const BF16* weight;
  int64_t rows, in, out;

  Operands(const Tensor& x_, const Tensor& packed, const Tensor& bias_)
      : x(x_.contiguous()),
        bias(bias_.defined() ? bias_.contiguous() : at::zeros({packed.size(0)}, packed.options())),
        weight(packed.const_data_ptr<BF16>()),
        rows(x_.numel() / x_.size(-1)),
        in(packed.size(1)),
        out(packed.size(0)) {
    TORCH_CHECK(x.size(-1) == in, "linear of ", x.sizes(), " by ", packed.sizes());
  }

  void multiply(int64_t block, int64_t columns, int64_t row, int64_t count, float* sums) const {
    cpu::multiply({count, columns, in, in, columns, kColumns}, x.const_data_ptr<BF16>() + row * in,
                  weight + block * kColumns * in, sums, /*adds=*/false);
  }
  const BF16* bias_of(int64_t block) const { return bias.const_data_ptr<BF16>() + block * kColumns; }
  Tensor result(int64_t width) const {
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = width;
    return at::empty(shape, x.options());
  }
};

}  // namespace

bool can_bf16(int64_t in, int64_t out) {
  constexpr int64_t kFewest = 16;
  return pair_unit() == PairUnit::kAvx512 && in % 2 == 0 && std::min(in, out) >= kFewest;
}

Tensor bf16_linear(const Tensor& x, const Tensor& packed, const Tensor& bias, const Tensor& residual) {
  const Operands o(x, packed, bias);
  Tensor y = o.result(o.out);
  const Tensor more = residual.defined() ? residual.contiguous() : Tensor();
  const BF16* added = more.defined() ? more.const_data_ptr<BF16>() : nullptr;
  BF16* to = y.mutable_data_ptr<BF16>();
  for_tasks(o.rows, (o.out + kColumns - 1) / kColumns, [&](int64_t block, int64_t row, int64_t count) {
    const int64_t columns = std::min(kColumns, o.out - block * kColumns);
    const int64_t at = row * o.out + block * kColumns;
    alignas(64) float sums[kRows * kColumns];
    for (int64_t r = 0; r < count; ++r) {
      fetch<kForWriting>(to + at + r * o.out, columns);
      if (added != nullptr) fetch<kForReading>(added + at + r * o.out, columns);
    }
    o.multiply(block, columns, row, count, sums);
    finish(sums, count, columns, o.bias_of(block), added == nullptr ? nullptr : added + at, o.out, to + at);
  });
  return y;
}

bool can_bf16_geglu(const Tensor& packed) { return packed.size(0) % (2 * kColumns) == 0; }

Tensor bf16_geglu(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  const Operands o(x, packed, bias);
  const int64_t width = o.out / 2, blocks = width / kColumns;
  Tensor y = o.result(width);
  BF16* to = y.mutable_data_ptr<BF16>();
  for_tasks(o.rows, blocks, [&](int64_t block, int64_t row, int64_t count) {
    alignas(64) float value[kRows * kColumns], gate[kRows * kColumns];
    for (int64_t r = 0; r < count; ++r) fetch<kForWriting>(to + (row + r) * width + block * kColumns, kColumns);
    o.multiply(block, kColumns, row, count, value);
    o.multiply(blocks + block, kColumns, row, count, gate);
    for (int64_t r = 0; r < count; ++r)
      finish_geglu(value + r * kColumns, gate + r * kColumns, o.bias_of(block), o.bias_of(blocks + block),
                   to + (row + r) * width + block * kColumns);
  });
  return y;
}

}  // namespace easel::cpu
