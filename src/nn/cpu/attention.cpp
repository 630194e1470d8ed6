#include "nn/cpu/attention.h"

#include "easel/vector_loops.h"
#include "nn/cpu/amx_attention.h"
#include "nn/cpu/attention_blocks.h"
#include "nn/cpu/exponentials.h"

namespace easel::cpu {

#define EASEL_SQUARE_OF(T)                                                                                           \
  EASEL_CLONES float square_of(const T* row, int64_t count) {                                                        \
    float sum = 0;                                                                                                   \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < count; ++i) sum += widen(row[i]) * widen(row[i]); \
    return sum;                                                                                                      \
  }
EASEL_SQUARE_OF(float)
EASEL_SQUARE_OF(at::BFloat16)
#undef EASEL_SQUARE_OF

namespace {

using BF16 = at::BFloat16;

EASEL_CLONES void scale_row(float* row, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i) row[i] *= factor;
}

EASEL_CLONES void store_row(const float* row, BF16* out, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i) out[i] = narrow<BF16>(row[i] * factor);
}

// ---- bfloat16 -----------------------------------------------------------------------------------------------------

// The keys and values of all heads as the products want them, block after block: of keys [width/2, keys, 2], of values
// [keys/2, width, 2]; an odd last key gets a neighbour of zeros.
struct Paired {
  const AttentionSizes s;
  Tensor keys, values;
  std::vector<float> longest;  // of each head's keys

  explicit Paired(const AttentionSizes& sizes)
      : s(sizes),
        keys(at::empty({s.batch * s.heads, s.key_blocks(), kKeys * s.width}, at::kBFloat16)),
        values(at::empty_like(keys)),
        longest(static_cast<std::size_t>(s.batch * s.heads)) {}

  int64_t place(int64_t head, int64_t block) const { return (head * s.key_blocks() + block) * kKeys * s.width; }

  void pack(const Rows<BF16>& k, const Rows<BF16>& v, int64_t head) {
    longest[static_cast<std::size_t>(head)] = longest_of(k, s);
    for (int64_t block = 0; block < s.key_blocks(); ++block) {
      const int64_t first = block * kKeys, count = s.keys_in(block);
      pack_keys(k.from(first), count, keys.mutable_data_ptr<BF16>() + place(head, block));
      pack_values(v.from(first), count, values.mutable_data_ptr<BF16>() + place(head, block));
    }
  }

 private:
  void pack_keys(const Rows<BF16>& k, int64_t count, BF16* out) const {
    for (int64_t n = 0; n < count; ++n) {
      const BF16* row = k.at(n);
      for (int64_t i = 0; i < s.width; i += 2) std::copy_n(row + i, 2, out + i * count + n * 2);
    }
  }
  void pack_values(const Rows<BF16>& v, int64_t count, BF16* out) const {
    for (int64_t n = 0; n < count; ++n) {
      for (int64_t i = 0; i < s.width; ++i) out[2 * (n / 2 * s.width + i) + n % 2] = v.at(n)[i];
    }
    if (count % 2 == 0) return;
    for (int64_t i = 0; i < s.width; ++i) out[2 * (count / 2 * s.width + i) + 1] = BF16(0.0f);
  }
};

// One block of queries of one head over all keys. Everything of a query lies in a row.
class QueryRows {
 public:
  explicit QueryRows(const AttentionSizes& s)
      : s_(s),
        scores_(static_cast<std::size_t>(kQueries * kKeys)),
        shares_(scores_.size()),
        sums_(static_cast<std::size_t>(kQueries * s.width)),
        shift_(static_cast<std::size_t>(kQueries)),
        total_(shift_.size()) {}

  void attend(const Rows<BF16>& q, int64_t rows, const Paired& packed, int64_t head, BF16* out, int64_t out_stride) {
    bounded_ = begin_queries(q, rows, s_, packed.longest[static_cast<std::size_t>(head)], shift_.data(), total_.data());
    for (int64_t block = 0; block < s_.key_blocks(); ++block) {
      const int64_t keys = s_.keys_in(block), even = s_.even_keys(block);
      const int64_t place = packed.place(head, block);
      multiply({rows, keys, s_.width, q.stride, keys, kKeys}, q.first, packed.keys.const_data_ptr<BF16>() + place,
               scores_.data(), /*adds=*/false);
      for (int64_t r = 0; r < rows; ++r) weigh(r, keys, even, /*is_first=*/block == 0);
      multiply({rows, s_.width, even, kKeys, s_.width, s_.width}, shares_.data(),
               packed.values.const_data_ptr<BF16>() + place, sums_.data(), /*adds=*/block > 0);
    }
    for (int64_t r = 0; r < rows; ++r)
      store_row(sums_.data() + r * s_.width, out + r * out_stride, s_.width, 1 / total_[static_cast<std::size_t>(r)]);
  }

 private:
  void weigh(int64_t row, int64_t keys, int64_t even, bool is_first) {
    const auto r = static_cast<std::size_t>(row);
    const float* scores = scores_.data() + row * kKeys;
    if (!bounded_) raise_shift(row, largest_of(scores, keys) * s_.scale, is_first);
    BF16* shares = shares_.data() + row * kKeys;
    total_[r] += exponentials(scores, shares, keys, s_.scale, shift_[r]);
    if (even > keys) shares[keys] = BF16(0.0f);
  }

  void raise_shift(int64_t row, float largest, bool is_first) {
    const auto r = static_cast<std::size_t>(row);
    if (largest <= shift_[r]) return;
    const float factor = std::exp2(shift_[r] - largest);
    total_[r] *= factor;
    if (!is_first) scale_row(sums_.data() + row * s_.width, s_.width, factor);
    shift_[r] = largest;
  }

  const AttentionSizes& s_;
  std::vector<float> scores_;
  std::vector<BF16> shares_;
  std::vector<float> sums_, shift_, total_;
  bool bounded_ = true;
};

bool has_rows(const Tensor& x) { return x.dim() == 3 && x.stride(2) == 1 && x.stride(1) >= x.size(2); }

bool can_multiply(at::ScalarType dtype) {
  return has_float_products() && (dtype == at::kFloat || dtype == at::kBFloat16);
}

}  // namespace

bool can_attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  for (const Tensor* x : {&q, &k, &v}) {
    if (!x->device().is_cpu() || x->scalar_type() != q.scalar_type() || !has_rows(*x)) return false;
  }
  if (!can_multiply(q.scalar_type()) || q.size(2) % (2 * heads) != 0) return false;
  const bool is_amx = q.scalar_type() == at::kBFloat16 && pair_unit() == PairUnit::kAmx;
  if (is_amx && k.stride(1) % 2 != 0) return false;  // keys are turned two values at a time
  // Below, ATen's is as fast.
  const int64_t queries = is_amx ? 64 : 128, keys = 16, widest = 512;
  return q.size(1) >= queries && k.size(1) >= keys && q.size(2) / heads <= widest;
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads) {
  const AttentionSizes s{q.size(0), heads, q.size(1), k.size(1), q.size(2) / heads};
  Tensor out = at::empty(q.sizes(), q.options());
  if (q.scalar_type() == at::kFloat || pair_unit() == PairUnit::kWidened)
    attend_f32(q, k, v, s, out);
  else if (pair_unit() == PairUnit::kAmx)
    amx::attend(q, k, v, s, out);
  else
    attend_in_blocks<BF16, Paired, QueryRows>(q, k, v, s, out);
  return out;
}

}  // namespace easel::cpu
