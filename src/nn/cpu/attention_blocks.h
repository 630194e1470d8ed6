// What attention in float32 and in bfloat16 have in common: blocks of queries of one head, each over all keys.
#pragma once

#include <ATen/Parallel.h>

#include <limits>

#include "easel/tensor.h"
#include "nn/cpu/products.h"

namespace easel::cpu {

constexpr int64_t kQueries = 256, kKeys = 256;  // of a block: its scores stay in the second-level cache
constexpr float kLog2E = 1.44269504f;
// Scores are exponents of two. Below 2⁻¹⁰⁰ they are as good as zero, so a query's largest must not lie further under
// what is subtracted; a bound on the scores of both signs does as well as the largest while it is below half of that.
constexpr float kLargestBound = 45;

struct AttentionSizes {
  int64_t batch, heads, tokens, keys, width;  // width of a head
  float scale = kLog2E / std::sqrt(static_cast<float>(width));
  int64_t key_blocks() const { return (keys + kKeys - 1) / kKeys; }
  int64_t even_keys(int64_t block) const { return (keys_in(block) + 1) / 2 * 2; }
  int64_t keys_in(int64_t block) const { return std::min(kKeys, keys - block * kKeys); }
};

template <class T>
struct Rows {
  const T* first;
  int64_t stride;
  const T* at(int64_t i) const { return first + i * stride; }
  Rows from(int64_t i) const { return {at(i), stride}; }
};

template <class T>
Rows<T> rows_of_head(const Tensor& x, int64_t head, const AttentionSizes& s) {
  return {x.const_data_ptr<T>() + head / s.heads * x.stride(0) + head % s.heads * s.width, x.stride(1)};
}

float square_of(const float* row, int64_t count);
float square_of(const at::BFloat16* row, int64_t count);

// NaN where a key has one.
template <class T>
float longest_of(const Rows<T>& keys, const AttentionSizes& s) {
  float longest = 0;
  for (int64_t n = 0; n < s.keys; ++n) {
    const float square = square_of(keys.at(n), s.width);
    if (!(square <= longest)) longest = square;
  }
  return std::sqrt(longest);
}

// What is subtracted from each query's scores: a bound on them by Cauchy and Schwarz, or, where one is too large, the
// largest of them so far, of which this says that it returns false. total: 0, or NaN where the query or a key is not
// finite, whatever the exponentials make of it.
template <class T>
bool begin_queries(const Rows<T>& q, int64_t count, const AttentionSizes& s, float longest_key, float* shift,
                   float* total) {
  bool bounded = true;
  for (int64_t r = 0; r < count; ++r) {
    shift[r] = std::sqrt(square_of(q.at(r), s.width)) * longest_key * s.scale;
    if (!(shift[r] <= kLargestBound)) bounded = false;
    total[r] = std::isfinite(shift[r]) ? 0 : std::numeric_limits<float>::quiet_NaN();
  }
  if (!bounded) std::fill_n(shift, count, -std::numeric_limits<float>::infinity());
  return bounded;
}

// Packed(sizes).pack(keys, values, head) for every head; then Block(sizes).attend(queries, count, packed, head, out,
// stride of out) for every block of queries.
template <class T, class Packed, class Block>
void attend_in_blocks(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionSizes& s, Tensor& out) {
  const auto rows_of = [&](const Tensor& x, int64_t head) { return rows_of_head<T>(x, head, s); };
  Packed packed(s);
  const int64_t all = s.batch * s.heads, blocks = (s.tokens + kQueries - 1) / kQueries;
  at::parallel_for(0, all, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) packed.pack(rows_of(k, head), rows_of(v, head), head);
  });
  at::parallel_for(0, all * blocks, 1, [&](int64_t begin, int64_t end) {
    Block block(s);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / blocks, first = task % blocks * kQueries;
      T* to =
          out.mutable_data_ptr<T>() + head / s.heads * out.stride(0) + first * out.stride(1) + head % s.heads * s.width;
      block.attend(rows_of(q, head).from(first), std::min(kQueries, s.tokens - first), packed, head, to, out.stride(1));
    }
    release_products();
  });
}

// attention_f32.cpp: in float32, whatever the values are kept in; keys by queries, so that a head's narrow width is
// never the columns of a product.
void attend_f32(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionSizes& s, Tensor& out);

}  // namespace easel::cpu
