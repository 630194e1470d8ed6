#include "nn/cpu/amx_attention.h"

#include <ATen/Parallel.h>

#include <array>
#include <limits>

#include "nn/cpu/amx_heads.h"
#include "nn/cpu/exp2_lanes.h"
#include "nn/cpu/exponentials.h"

namespace easel::cpu::amx {

#if defined(__x86_64__)
namespace {

constexpr int64_t kBlockKeys = 128;  // whose scores are there at once, for kSide queries
constexpr int64_t kGroups = 4;       // of kSide queries, that pass over a block of keys one after the other
constexpr int64_t kColumnTiles = 3;  // of values, whose sums stay in tiles

// kSide queries.
struct Group {
  BF16* queries;                          // [steps, 32, 32], on whole cache lines as all that tiles read and write
  float* sums;                            // [columns, 32, 16]
  std::array<float, kSide> shift, total;  // begin_queries()
  bool bounded = true;
};

// The scores of a group's queries with a block of keys, and what becomes of them.
struct Scores {
  float* values = nullptr;          // [32, kBlockKeys]
  BF16* weights = nullptr;          // [keys / 32, 32, 32]
  std::array<float, kSide> factor;  // that sums from before are to be multiplied by
  bool rescales = false;
  int64_t block = 0, spans = 0, keys = 0;
  Group* group = nullptr;
};

// What the tiles of sums hold that is not stored yet. A tile that is stored right after it was multiplied keeps the
// others waiting, so it is when it is wanted again, between other tiles' products.
class Held {
 public:
  template <int kTile>
  EASEL_INLINE void hold(float* to, int64_t stride) {
    to_[kTile] = to;
    stride_[kTile] = stride;
  }
  template <int kTile>
  EASEL_INLINE void vacate() {
    if (to_[kTile] == nullptr) return;
    store<kTile>(to_[kTile], stride_[kTile]);
    to_[kTile] = nullptr;
  }
  void vacate_all() { vacate<0>(), vacate<1>(), vacate<2>(), vacate<3>(), vacate<4>(), vacate<5>(); }

 private:
  float* to_[6] = {};
  int64_t stride_[6] = {};
};

// keys · queries, a step of 32 keys at a time.
class ScoreUnits {
 public:
  ScoreUnits(const HeadShape& s, const PackedHead& packed, Scores* scores, Held& held)
      : s_(s), packed_(packed), scores_(scores), held_(held) {}
  int64_t count() const { return scores_ == nullptr ? 0 : scores_->spans * s_.steps(); }

  void operator()(int64_t unit) const {
    const int64_t span = unit / s_.steps(), step = unit % s_.steps();
    const BF16* keys = packed_.keys(scores_->block * (kBlockKeys / kSide) + span) + step * 2 * kTile;
    const BF16* queries = scores_->group->queries + step * 2 * kTile;
    if (step == 0) return begin(queries, keys, scores_->values + span * kSide);
    load<4>(queries, 64), load<6>(keys, 64), load<7>(keys + kTile, 64);
    add_product<0, 4, 6>(), add_product<1, 4, 7>();
    load<5>(queries + kTile, 64);
    add_product<2, 5, 6>(), add_product<3, 5, 7>();
  }

 private:
  template <int kSums, int kA, int kB>
  EASEL_INLINE void begin(float* sums) const {
    held_.vacate<kSums>();
    clear<kSums>(), add_product<kSums, kA, kB>();
    held_.hold<kSums>(sums, kBlockKeys * sizeof(float));
  }
  void begin(const BF16* queries, const BF16* keys, float* to) const {
    held_.vacate<4>();
    load<4>(queries, 64), load<6>(keys, 64);
    begin<0, 4, 6>(to);
    load<7>(keys + kTile, 64);
    begin<1, 4, 7>(to + kTileRows);
    held_.vacate<5>();
    load<5>(queries + kTile, 64);
    begin<2, 5, 6>(to + kTileRows * kBlockKeys);
    begin<3, 5, 7>(to + kTileRows * kBlockKeys + kTileRows);
  }

  const HeadShape& s_;
  const PackedHead& packed_;
  Scores* scores_;
  Held& held_;
};

// sums += weights · values, 32 keys and up to kColumnTiles tiles of columns at a time.
class SumUnits {
 public:
  SumUnits(const HeadShape& s, const PackedHead& packed, Scores* scores, Held& held)
      : s_(s), packed_(packed), scores_(scores), held_(held) {}
  int64_t count() const {
    return scores_ == nullptr ? 0 : scores_->spans * ((s_.columns() + kColumnTiles - 1) / kColumnTiles);
  }

  void operator()(int64_t unit) const {
    const int64_t span = unit % scores_->spans, column = unit / scores_->spans * kColumnTiles;
    if (unit == 0) rescale();
    switch (std::min(kColumnTiles, s_.columns() - column)) {
      case 1:
        return add<1>(span, column);
      case 2:
        return add<2>(span, column);
      default:
        return add<3>(span, column);
    }
  }

 private:
  template <int kCount>
  void add(int64_t span, int64_t column) const {
    float* sums = scores_->group->sums + column * kTile;
    const BF16* weights = scores_->weights + span * 2 * kTile;
    const BF16* values = packed_.values(scores_->block * (kBlockKeys / kSide) + span) + column * kTile;
    add_row<kCount, 0>(weights, values, sums, span == 0);
    add_row<kCount, kColumnTiles>(weights + kTile, values, sums + kTile / 2, span == 0);
  }
  template <int kCount, int kFirst>
  EASEL_INLINE void add_row(const BF16* weights, const BF16* values, float* sums, bool begins) const {
    load<6>(weights, 64);
    add_tile<kFirst, (kCount > 0)>(values, sums, begins);
    add_tile<kFirst + 1, (kCount > 1)>(values + kTile, sums + kTile, begins);
    add_tile<kFirst + 2, (kCount > 2)>(values + 2 * kTile, sums + 2 * kTile, begins);
  }
  template <int kSums, bool kIsThere>
  EASEL_INLINE void add_tile(const BF16* values, float* sums, bool begins) const {
    if (begins) held_.vacate<kSums>();
    if constexpr (kIsThere) {
      load<7>(values, 64);
      if (begins) load<kSums>(sums, 64), held_.hold<kSums>(sums, 64);
      add_product<kSums, 6, 7>();
    }
  }

  EASEL_AVX512_BF16 void rescale() const {
    if (!scores_->rescales) return;
    held_.vacate_all();
    float* row = scores_->group->sums;
    for (int64_t column = 0; column < s_.columns(); ++column) {
      for (std::size_t r = 0; r < kSide; ++r, row += kTileRows)
        _mm512_storeu_ps(row, _mm512_mul_ps(_mm512_loadu_ps(row), _mm512_set1_ps(scores_->factor[r])));
    }
  }

  const HeadShape& s_;
  const PackedHead& packed_;
  Scores* scores_;
  Held& held_;
};

// Keys beyond the last get no weight, however far below their zeros all others are.
EASEL_AVX512_BF16 void forget_padding(float* scores, int64_t keys, int64_t spans) {
  const __m512 none = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  for (int64_t first = keys / kTileRows * kTileRows; first < spans * kSide; first += kTileRows) {
    const int64_t kept = std::max<int64_t>(keys - first, 0);
    _mm512_mask_storeu_ps(scores + first, static_cast<__mmask16>(0xFFFF << kept), none);
  }
}

// A query's weights.
EASEL_AVX512_BF16 void weigh(Scores& s, int64_t row, float scale) {
  const auto r = static_cast<std::size_t>(row);
  float* scores = s.values + row * kBlockKeys;
  if (s.keys < s.spans * kSide) forget_padding(scores, s.keys, s.spans);
  float& shift = s.group->shift[r];
  if (!s.group->bounded) {
    const float largest = std::max(shift, largest_of(scores, s.keys) * scale);
    s.factor[r] = largest > shift ? std::exp2(shift - largest) : 1;
    s.rescales |= largest > shift;
    shift = largest;
  }
  const __m512 factor = _mm512_set1_ps(scale), minus = _mm512_set1_ps(shift);
  for (int64_t span = 0; span < s.spans; ++span, scores += kSide) {
    const __m512 low = exp2_by_cubic(_mm512_fmsub_ps(_mm512_loadu_ps(scores), factor, minus));
    const __m512 high = exp2_by_cubic(_mm512_fmsub_ps(_mm512_loadu_ps(scores + kTileRows), factor, minus));
    _mm512_storeu_si512(s.weights + span * 2 * kTile + row * kSide, (__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
}

// kGroups · kSide queries of one head over all of its keys. The exponentials of one block's scores are computed while
// the tiles make the next one's scores and the sums of the one before: each takes about as long as the others together.
class QueryTiles {
 public:
  // room: of bytes(s)
  QueryTiles(const HeadShape& s, std::byte* room)
      : s_(s), groups_(kGroups), scores_(3) {  // the one before, this one and the next
    for (Group& group : groups_) {
      group.queries = reinterpret_cast<BF16*>(room);
      group.sums = reinterpret_cast<float*>(room + query_bytes(s));
      room += query_bytes(s) + sum_bytes(s);
    }
  }
  static std::size_t bytes(const HeadShape& s) { return kGroups * (query_bytes(s) + sum_bytes(s)); }

  void attend(const Rows<BF16>& q, int64_t count, const PackedHead& packed, float longest, BF16* out, int64_t stride) {
    const int64_t groups = (count + kSide - 1) / kSide, blocks = (s_.keys + kBlockKeys - 1) / kBlockKeys;
    for (int64_t g = 0; g < groups; ++g)
      begin(groups_[static_cast<std::size_t>(g)], q.from(g * kSide), std::min(kSide, count - g * kSide), longest);
    const int64_t rounds = blocks * groups;
    for (int64_t round = -1; round <= rounds; ++round) {
      if (round + 1 < rounds) prepare(round + 1, (round + 1) / groups, (round + 1) % groups);
      run(packed, round > 0 ? &at(round - 1) : nullptr, round >= 0 && round < rounds ? &at(round) : nullptr,
          round + 1 < rounds ? &at(round + 1) : nullptr);
    }
    held_.vacate_all();
    for (int64_t g = 0; g < groups; ++g) {
      const Group& group = groups_[static_cast<std::size_t>(g)];
      store_queries(group.sums, group.total.data(), std::min(kSide, count - g * kSide), s_, out + g * kSide * stride,
                    stride);
    }
  }

 private:
  static std::size_t query_bytes(const HeadShape& s) {
    return static_cast<std::size_t>(s.steps() * 2 * kTile) * sizeof(BF16);
  }
  static std::size_t sum_bytes(const HeadShape& s) {
    return static_cast<std::size_t>(s.columns() * kTile) * sizeof(float);
  }

  Scores& at(int64_t round) { return scores_[static_cast<std::size_t>(round % 3)]; }

  void begin(Group& group, const Rows<BF16>& q, int64_t count, float longest) {
    std::fill_n(group.sums, s_.columns() * kTile, 0.0f);
    group.shift.fill(0);
    pack_queries(q, count, s_, group.queries);
    group.bounded = begin_queries(q, count, s_, longest, group.shift.data(), group.total.data());
  }

  void prepare(int64_t round, int64_t block, int64_t group) {
    Scores& scores = at(round);
    scores.values = values_[round % 2];
    scores.weights = weights_[round % 2];
    scores.group = &groups_[static_cast<std::size_t>(group)];
    scores.block = block;
    scores.spans = std::min(kBlockKeys / kSide, s_.spans() - block * (kBlockKeys / kSide));
    scores.keys = std::min(kBlockKeys, s_.keys - block * kBlockKeys);
    scores.rescales = false;
  }

  void run(const PackedHead& packed, Scores* before, Scores* now, Scores* next) {
    const ScoreUnits score(s_, packed, next, held_);
    const SumUnits sum(s_, packed, before, held_);
    const int64_t scores = score.count(), units = scores + sum.count();
    int64_t unit = 0;
    const auto work_until = [&](int64_t end) {
      for (; unit < end; ++unit) unit < scores ? score(unit) : sum(unit - scores);
    };
    for (int64_t row = 0; row < kSide && now != nullptr; ++row) {
      work_until(units * (row + 1) / kSide);
      weigh(*now, row, s_.scale);
    }
    work_until(units);
    if (before == nullptr) held_.vacate_all();  // scores, which are wanted now
  }

  const HeadShape& s_;
  std::vector<Group> groups_;
  std::vector<Scores> scores_;
  Held held_;
  alignas(64) float values_[2][kSide * kBlockKeys];
  alignas(64) BF16 weights_[2][kSide * kBlockKeys];
};

}  // namespace

void attend(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionSizes& sizes, Tensor& out) {
  constexpr int64_t kQueries = kGroups * kSide;
  const HeadShape s(sizes);
  const auto rows_of = [&](const Tensor& x, int64_t head) { return rows_of_head<BF16>(x, head, s); };
  const int64_t blocks = (s.tokens + kQueries - 1) / kQueries;
  at::parallel_for(0, s.batch * s.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    const Tiles tiles;
    const auto head_bytes = static_cast<std::size_t>(s.key_values() + s.value_values()) * sizeof(BF16);
    std::byte* const room = room_for(head_bytes + QueryTiles::bytes(s));
    PackedHead packed(s, reinterpret_cast<BF16*>(room));
    QueryTiles block(s, room + head_bytes);
    float longest = 0;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / blocks, first = task % blocks * kQueries;
      if (task == begin || first == 0) {
        packed.pack(rows_of(k, head), rows_of(v, head));
        longest = longest_of(rows_of(k, head), s);
      }
      BF16* to = out.mutable_data_ptr<BF16>() + head / s.heads * out.stride(0) + first * out.stride(1) +
                 head % s.heads * s.width;
      block.attend(rows_of(q, head).from(first), std::min(kQueries, s.tokens - first), packed, longest, to,
                   out.stride(1));
    }
  });
}
#else
void attend(const Tensor&, const Tensor&, const Tensor&, const AttentionSizes&, Tensor&) {}
#endif

}  // namespace easel::cpu::amx
