#include <array>

#include "easel/vector_loops.h"
#include "nn/cpu/attention_blocks.h"
#include "nn/cpu/softmax_columns.h"

namespace easel::cpu {
namespace {

// The keys of all heads, [keys, width], head after head, and their values, block after block, [width, keys].
struct Turned {
  const AttentionSizes s;
  Tensor keys, values;
  std::vector<float> longest;  // of each head's keys

  explicit Turned(const AttentionSizes& sizes)
      : s(sizes),
        keys(at::empty({s.batch * s.heads, s.keys, s.width}, at::kFloat)),
        values(at::empty_like(keys)),
        longest(static_cast<std::size_t>(s.batch * s.heads)) {}

  int64_t place(int64_t head, int64_t block) const { return (head * s.keys + block * kKeys) * s.width; }

  template <class T>
  void pack(const Rows<T>& k, const Rows<T>& v, int64_t head) {
    longest[static_cast<std::size_t>(head)] = longest_of(k, s);
    for (int64_t n = 0; n < s.keys; ++n) {
      const T* row = k.at(n);
      std::transform(row, row + s.width, keys.mutable_data_ptr<float>() + (head * s.keys + n) * s.width,
                     [](T x) { return widen(x); });
    }
    for (int64_t block = 0; block < s.key_blocks(); ++block) {
      const int64_t count = s.keys_in(block);
      float* to = values.mutable_data_ptr<float>() + place(head, block);
      for (int64_t n = 0; n < count; ++n) {
        const T* row = v.at(block * kKeys + n);
        for (int64_t i = 0; i < s.width; ++i) to[i * count + n] = widen(row[i]);
      }
    }
  }
};

// Up to run_columns() queries. Everything of a query lies in a column: its own values [width], its scores [keys] and
// its sums [width], in rows of so many.
class Strip {
 public:
  explicit Strip(const AttentionSizes& s)
      : s_(s), queries_(static_cast<std::size_t>(s.width * columns_)), sums_(queries_.size()) {}

  template <class T>
  void begin(const Rows<T>& q, int64_t count, float longest_key) {
    count_ = count;
    bounded_ = begin_queries(q, count, s_, longest_key, shift_.data(), total_.data());
    for (int64_t r = 0; r < count; ++r) {
      const T* row = q.at(r);
      for (int64_t i = 0; i < s_.width; ++i) queries_[static_cast<std::size_t>(i * columns_ + r)] = widen(row[i]);
    }
  }

  // keys [count, width], values [width, count]; scores: room for [count, run_columns()].
  void attend(const float* keys, const float* values, int64_t count, bool is_first, float* scores) {
    multiply({count, count_, s_.width, s_.width, columns_, columns_}, keys, queries_.data(), scores, /*adds=*/false);
    const ScoreStrip strip{scores, count, count_};
    if (!bounded_ && raise_shifts(strip, s_.scale, shift_.data(), factor_.data())) rescale(is_first);
    exponentials_in_place(strip, s_.scale, shift_.data(), total_.data());
    multiply({s_.width, count_, count, count, columns_, columns_}, values, scores, sums_.data(), /*adds=*/!is_first);
  }

  template <class T>
  void store(T* out, int64_t stride) const {
    for (int64_t r = 0; r < count_; ++r) {
      const float share = 1 / total_[static_cast<std::size_t>(r)];
      for (int64_t i = 0; i < s_.width; ++i)
        out[r * stride + i] = narrow<T>(sums_[static_cast<std::size_t>(i * columns_ + r)] * share);
    }
  }

 private:
  void rescale(bool is_first) {
    const auto scale_row = [this](float* row) {
      for (int64_t r = 0; r < columns_; ++r) row[r] *= factor_[static_cast<std::size_t>(r)];
    };
    scale_row(total_.data());
    for (int64_t i = 0; i < s_.width && !is_first; ++i) scale_row(sums_.data() + i * columns_);
  }

  const AttentionSizes& s_;
  const int64_t columns_ = run_columns();
  std::vector<float> queries_, sums_;
  std::array<float, kMostRunColumns> shift_ = {}, total_ = {}, factor_ = {};
  int64_t count_ = 0;
  bool bounded_ = true;
};

// One block of queries of one head over all keys, whose blocks stay in the second-level cache for the strips.
class QueryStrips {
 public:
  explicit QueryStrips(const AttentionSizes& s)
      : s_(s),
        strips_(static_cast<std::size_t>(kQueries / columns_), Strip(s)),
        scores_(static_cast<std::size_t>(kKeys * columns_)) {}

  template <class T>
  void attend(const Rows<T>& q, int64_t count, const Turned& turned, int64_t head, T* out, int64_t out_stride) {
    const auto for_strips = [&](const auto& work) {
      for (int64_t first = 0; first < count; first += columns_)
        work(strips_[static_cast<std::size_t>(first / columns_)], first);
    };
    for_strips([&](Strip& strip, int64_t first) {
      strip.begin(q.from(first), std::min(columns_, count - first), turned.longest[static_cast<std::size_t>(head)]);
    });
    for (int64_t block = 0; block < s_.key_blocks(); ++block) {
      const int64_t place = turned.place(head, block);
      for_strips([&](Strip& strip, int64_t) {
        strip.attend(turned.keys.const_data_ptr<float>() + place, turned.values.const_data_ptr<float>() + place,
                     s_.keys_in(block), block == 0, scores_.data());
      });
    }
    for_strips([&](Strip& strip, int64_t first) { strip.store(out + first * out_stride, out_stride); });
  }

 private:
  const AttentionSizes& s_;
  const int64_t columns_ = run_columns();
  std::vector<Strip> strips_;
  std::vector<float> scores_;
};

}  // namespace

void attend_f32(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionSizes& s, Tensor& out) {
  if (q.scalar_type() == at::kFloat)
    attend_in_blocks<float, Turned, QueryStrips>(q, k, v, s, out);
  else
    attend_in_blocks<at::BFloat16, Turned, QueryStrips>(q, k, v, s, out);
}

}  // namespace easel::cpu
