#include "nn/cpu/attention.h"

#include <ATen/Parallel.h>

#include <limits>

#include "easel/vector_loops.h"
#include "nn/cpu/exponentials.h"
#include "nn/cpu/instruction_sets.h"
#include "nn/cpu/products.h"

namespace easel::cpu {
namespace {

using BF16 = at::BFloat16;
template <class T>
constexpr int64_t kPair = std::is_same_v<T, BF16> ? 2 : 1;  // rows of B that lie side by side in a product

constexpr int64_t kRows = 256, kKeys = 256;  // of a block: its scores stay in the second-level cache
constexpr float kLog2E = 1.44269504f;
// Scores are exponents of two. Below 2⁻¹²⁶ they are zero, so a row's maximum must not lie further under what is
// subtracted; a bound on the scores of both signs does as well as the maximum while it is below half of that.
constexpr float kLargestBound = 60;

// ---- inner loops --------------------------------------------------------------------------------------------------

#define EASEL_SQUARE_OF(T)                                                                                           \
  EASEL_CLONES float square_of(const T* row, int64_t count) {                                                        \
    float sum = 0;                                                                                                   \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < count; ++i) sum += widen(row[i]) * widen(row[i]); \
    return sum;                                                                                                      \
  }
EASEL_SQUARE_OF(float)
EASEL_SQUARE_OF(BF16)
#undef EASEL_SQUARE_OF

EASEL_CLONES void scale_row(float* row, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i) row[i] *= factor;
}

#define EASEL_STORE_ROW(T)                                                             \
  EASEL_CLONES void store_row(const float* row, T* out, int64_t count, float factor) { \
    for (int64_t i = 0; i < count; ++i) out[i] = narrow<T>(row[i] * factor);           \
  }
EASEL_STORE_ROW(float)
EASEL_STORE_ROW(BF16)
#undef EASEL_STORE_ROW

// ---- blocks -------------------------------------------------------------------------------------------------------

struct Sizes {
  int64_t batch, heads, tokens, keys, width;  // width of a head
  int64_t key_blocks() const { return (keys + kKeys - 1) / kKeys; }
  int64_t even_keys(int64_t block) const { return (keys_in(block) + 1) / 2 * 2; }
  int64_t keys_in(int64_t block) const { return std::min(kKeys, keys - block * kKeys); }
};

// The keys and values of all heads as the products want them, block after block: of keys [width/p, keys, p], of values
// [keys/p, width, p], p = kPair; an odd last key gets a neighbour of zeros.
template <class T>
struct Packed {
  std::vector<T> keys, values;
  std::vector<float> longest;  // of each head's keys

  explicit Packed(const Sizes& s)
      : keys(static_cast<std::size_t>(s.batch * s.heads * s.key_blocks() * kKeys * s.width)),
        values(keys.size()),
        longest(static_cast<std::size_t>(s.batch * s.heads)) {}
};

template <class T>
struct Rows {
  const T* first;
  int64_t stride;
  const T* at(int64_t i) const { return first + i * stride; }
};

template <class T>
Rows<T> rows_of(const Tensor& x, int64_t batch, int64_t head, int64_t width) {
  return {x.const_data_ptr<T>() + batch * x.stride(0) + head * width, x.stride(1)};
}

template <class T>
void pack_keys(const Rows<T>& k, int64_t count, int64_t width, T* out) {
  constexpr int64_t p = kPair<T>;
  for (int64_t n = 0; n < count; ++n) {
    const T* row = k.at(n);
    for (int64_t i = 0; i < width; i += p) std::copy_n(row + i, p, out + i * count + n * p);
  }
}

template <class T>
void pack_values(const Rows<T>& v, int64_t count, int64_t width, T* out) {
  constexpr int64_t p = kPair<T>;
  for (int64_t n = 0; n < count; ++n) {
    for (int64_t i = 0; i < width; ++i) out[p * (n / p * width + i) + n % p] = v.at(n)[i];
  }
  if (count % p == 0) return;
  for (int64_t i = 0; i < width; ++i) out[p * (count / p * width + i) + 1] = T(0.0f);
}

template <class T>
void pack_head(const Rows<T>& k, const Rows<T>& v, const Sizes& s, int64_t head, Packed<T>& packed) {
  float longest = 0;
  for (int64_t n = 0; n < s.keys; ++n) {
    const float square = square_of(k.at(n), s.width);
    if (!(square <= longest)) longest = square;  // NaN stays
  }
  packed.longest[static_cast<std::size_t>(head)] = std::sqrt(longest);
  for (int64_t block = 0; block < s.key_blocks(); ++block) {
    const int64_t first = block * kKeys, place = (head * s.key_blocks() + block) * kKeys * s.width;
    pack_keys<T>({k.at(first), k.stride}, s.keys_in(block), s.width, packed.keys.data() + place);
    pack_values<T>({v.at(first), v.stride}, s.keys_in(block), s.width, packed.values.data() + place);
  }
}

// One block of queries of one head over all keys.
template <class T>
class QueryBlock {
 public:
  explicit QueryBlock(const Sizes& s)
      : s_(s),
        scores_(static_cast<std::size_t>(kRows * kKeys)),
        shares_(scores_.size()),
        sums_(static_cast<std::size_t>(kRows * s.width)),
        shift_(static_cast<std::size_t>(kRows)),
        total_(shift_.size()) {}

  void attend(const Rows<T>& q, int64_t rows, const Packed<T>& packed, int64_t head, T* out, int64_t out_stride) {
    begin(q, rows, packed.longest[static_cast<std::size_t>(head)]);
    for (int64_t block = 0; block < s_.key_blocks(); ++block) {
      const int64_t keys = s_.keys_in(block), even = s_.even_keys(block);
      const int64_t place = (head * s_.key_blocks() + block) * kKeys * s_.width;
      multiply({rows, keys, s_.width, q.stride, keys, kKeys}, q.first, packed.keys.data() + place, scores_.data(),
               /*adds=*/false);
      for (int64_t r = 0; r < rows; ++r) weigh(r, keys, even, /*is_first=*/block == 0);
      multiply({rows, s_.width, kPair<T> == 1 ? keys : even, kKeys, s_.width, s_.width}, shares_.data(),
               packed.values.data() + place, sums_.data(), /*adds=*/block > 0);
    }
    for (int64_t r = 0; r < rows; ++r)
      store_row(sums_.data() + r * s_.width, out + r * out_stride, s_.width, 1 / total_[static_cast<std::size_t>(r)]);
  }

 private:
  // What is subtracted from a row's scores: a bound on them by Cauchy and Schwarz, or, where that is too large, the
  // largest of them so far.
  void begin(const Rows<T>& q, int64_t rows, float longest_key) {
    scale_ = kLog2E / std::sqrt(static_cast<float>(s_.width));
    bounded_ = true;
    for (int64_t r = 0; r < rows; ++r) {
      const float bound = std::sqrt(square_of(q.at(r), s_.width)) * longest_key * scale_;
      shift_[static_cast<std::size_t>(r)] = bound;
      if (!(bound <= kLargestBound)) bounded_ = false;
      // Whatever the exponentials make of what is not finite, the row will not be.
      total_[static_cast<std::size_t>(r)] = std::isfinite(bound) ? 0 : std::numeric_limits<float>::quiet_NaN();
    }
    if (!bounded_) std::fill(shift_.begin(), shift_.end(), -std::numeric_limits<float>::infinity());
  }

  void weigh(int64_t row, int64_t keys, int64_t even, bool is_first) {
    const auto r = static_cast<std::size_t>(row);
    const float* scores = scores_.data() + row * kKeys;
    if (!bounded_) raise_shift(row, largest_of(scores, keys) * scale_, is_first);
    T* shares = shares_.data() + row * kKeys;
    total_[r] += exponentials(scores, shares, keys, scale_, shift_[r]);
    if (even > keys) shares[keys] = T(0.0f);
  }

  void raise_shift(int64_t row, float largest, bool is_first) {
    const auto r = static_cast<std::size_t>(row);
    if (largest <= shift_[r]) return;
    const float factor = std::exp2(shift_[r] - largest);
    total_[r] *= factor;
    if (!is_first) scale_row(sums_.data() + row * s_.width, s_.width, factor);
    shift_[r] = largest;
  }

  const Sizes& s_;
  std::vector<float> scores_;
  std::vector<T> shares_;
  std::vector<float> sums_, shift_, total_;
  float scale_ = 1;
  bool bounded_ = true;
};

Sizes sizes_of(const Tensor& q, const Tensor& k, int64_t heads) {
  return {q.size(0), heads, q.size(1), k.size(1), q.size(2) / heads};
}

bool has_rows(const Tensor& x) { return x.dim() == 3 && x.stride(2) == 1 && x.stride(1) >= x.size(2); }

template <class T>
void run(const Tensor& q, const Tensor& k, const Tensor& v, const Sizes& s, Tensor& out) {
  Packed<T> packed(s);
  const int64_t all = s.batch * s.heads;
  at::parallel_for(0, all, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head)
      pack_head(rows_of<T>(k, head / s.heads, head % s.heads, s.width),
                rows_of<T>(v, head / s.heads, head % s.heads, s.width), s, head, packed);
  });
  const int64_t blocks = (s.tokens + kRows - 1) / kRows;
  at::parallel_for(0, all * blocks, 1, [&](int64_t begin, int64_t end) {
    QueryBlock<T> block(s);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / blocks, first = task % blocks * kRows;
      const Rows<T> queries = rows_of<T>(q, head / s.heads, head % s.heads, s.width);
      T* to =
          out.mutable_data_ptr<T>() + head / s.heads * out.stride(0) + first * out.stride(1) + head % s.heads * s.width;
      block.attend({queries.at(first), queries.stride}, std::min(kRows, s.tokens - first), packed, head, to,
                   out.stride(1));
    }
    release_products();
  });
}

bool can_multiply(at::ScalarType dtype) {
  if (dtype == at::kFloat) return has_avx512();
  return dtype == at::kBFloat16 && pair_unit() != PairUnit::kNone;
}

}  // namespace

bool can_attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  for (const Tensor* x : {&q, &k, &v}) {
    if (!x->device().is_cpu() || x->scalar_type() != q.scalar_type() || !has_rows(*x)) return false;
  }
  if (!can_multiply(q.scalar_type()) || q.size(2) % (2 * heads) != 0) return false;
  // Below, ATen's is as fast.
  const bool is_amx = q.scalar_type() == at::kBFloat16 && pair_unit() == PairUnit::kAmx;
  const int64_t queries = is_amx ? 2048 : 128, keys = is_amx ? 2048 : 16, widest = is_amx ? 256 : 512;
  return q.size(1) >= queries && k.size(1) >= keys && q.size(2) / heads <= widest;
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  const Sizes s = sizes_of(q, k, heads);
  Tensor out = at::empty(q.sizes(), q.options());
  if (q.scalar_type() == at::kFloat)
    run<float>(q, k, v, s, out);
  else
    run<BF16>(q, k, v, s, out);
  return out;
}

}  // namespace easel::cpu
