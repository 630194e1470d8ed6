// A head's queries, keys, values and sums, as matrix tiles take them and give them.
#pragma once

#include "nn/cpu/amx_products.h"
#include "nn/cpu/attention_blocks.h"

namespace easel::cpu::amx {

struct HeadShape : AttentionSizes {
  explicit HeadShape(const AttentionSizes& s) : AttentionSizes(s) {}
  int64_t steps() const { return (width + kSide - 1) / kSide; }  // of a score's depth
  int64_t columns() const { return width / kTileRows + 1; }      // tiles of values and, behind them, a one
  int64_t spans() const { return (keys + kSide - 1) / kSide; }   // of kSide keys
  int64_t key_values() const { return spans() * steps() * 2 * kTile; }
  int64_t value_values() const { return spans() * columns() * kTile; }
};

// Keys [spans, steps, 2, 16 pairs of the width, 16 keys, 2], values [spans, columns, 16 pairs of keys, 16, 2]. What is
// beyond the width and the keys is zero; behind its width a value has a one, so that the sum of that is the sum of the
// weights.
class PackedHead {
 public:
  // room: of key_values() + value_values()
  PackedHead(const HeadShape& s, BF16* room) : s_(s), keys_(room), values_(room + s.key_values()) {}
  void pack(const Rows<BF16>& k, const Rows<BF16>& v);
  const BF16* keys(int64_t span) const { return keys_ + span * s_.steps() * 2 * kTile; }
  const BF16* values(int64_t span) const { return values_ + span * s_.columns() * kTile; }

 private:
  void pack_keys(const Rows<BF16>& k, int64_t first);
  void pack_values(const Rows<BF16>& v, int64_t first);

  const HeadShape& s_;
  BF16 *keys_, *values_;
};

// count ≤ kSide queries → [steps, 32, 32], zeros beyond them and the width.
void pack_queries(const Rows<BF16>& q, int64_t count, const HeadShape& s, BF16* to);

// Of sums [columns, 32, 16] of values and weights, `count` rows: values over (weights + total).
void store_queries(const float* sums, const float* total, int64_t count, const HeadShape& s, BF16* out, int64_t stride);

}  // namespace easel::cpu::amx
