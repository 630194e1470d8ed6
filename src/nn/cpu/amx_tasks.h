// The product of many rows with many panels, on all threads.
#pragma once

#include <ATen/Parallel.h>

#include "nn/cpu/amx_rows.h"

namespace easel::cpu::amx {

struct RowsAndPanels {
  const BF16 *rows, *panels;
  int64_t count, in;  // of the rows; values of each, as Left counts them
  bool has_bytes = false;
  const BF16* row(int64_t r) const { return rows + r * in; }
  const BF16* panel(int64_t p) const { return panels + p * kSide * in; }
};

// Rows that are brought together at once, so that they stay in the second-level cache while all panels pass by, and
// parts of the panels, so that every thread has something to do.
struct Division {
  int64_t rows, chunks, parts;
  explicit Division(const RowsAndPanels& o) {
    constexpr int64_t kBytes = 640 << 10, kFewest = 128, kMost = 1024;
    const int64_t threads = at::get_num_threads();
    const int64_t most = std::clamp(kBytes / (2 * o.in) / kSide * kSide, kFewest, kMost);
    chunks = at::divup(o.count, most);
    if (o.count >= threads * kFewest) chunks = at::divup(chunks, threads) * threads;
    rows = at::divup(at::divup(o.count, chunks), kSide) * kSide;
    chunks = at::divup(o.count, rows);
    parts = at::divup(threads, chunks);
  }
};

// Sums of the products that are not finished yet, beside those that are being made.
template <int kPanels>
struct Room {
  alignas(64) float sums[2][kPanels][kGroupRows * kSide];
};

inline RowsToDo part_of(const RowsToDo& rows, int64_t part, int64_t parts) {
  return {rows.work, rows.end * part / parts, rows.end * (part + 1) / parts};
}

// finish(work, panel, first row, sums of the panel, sums of the one `apart` behind it): what is to be done with them.
// Of panels 0 … count − 1; with kPanels 1 there is but the one.
template <int kPanels, class Work, class Finish>
void multiply(const RowsAndPanels& o, int64_t count, int64_t apart, const Finish& finish) {
  const Division division(o);
  at::parallel_for(0, division.chunks * division.parts, 1, [&](int64_t begin, int64_t end) {
    const Tiles tiles;
    Products products;
    Room<kPanels> room;
    Work works[2];
    RowsToDo before;
    int64_t turn = 0;
    auto* packed = reinterpret_cast<BF16*>(room_for(static_cast<std::size_t>(2 * division.rows * o.in)));
    const Left left{packed, o.in / kSide, kStep, kSide * o.in, nullptr, o.has_bytes};
    for (int64_t task = begin; task < end; ++task) {
      const int64_t chunk = task / division.parts, part = task % division.parts, first = chunk * division.rows;
      const int64_t rows = std::min(division.rows, o.count - first);
      if (task == begin || part == 0) pack_rows(o.row(first), rows, o.in, packed);
      for (int64_t panel = count * part / division.parts; panel < count * (part + 1) / division.parts; ++panel) {
        for (int64_t row = 0; row < rows; row += kGroupRows, turn = 1 - turn) {
          const int64_t few = std::min(kGroupRows, rows - row), whole = (few + kTileRows - 1) / kTileRows;
          auto& sums = room.sums[turn];
          for (int64_t i = 0; i < kPanels; ++i)
            products.multiply(left, row, whole, o.panel(panel + i * apart), sums[i], part_of(before, i, kPanels));
          finish(works[turn], panel, first + row, sums[0], sums[kPanels - 1]);
          before = {&works[turn], 0, few};
        }
      }
    }
    products.flush();
    before();
  });
}

}  // namespace easel::cpu::amx
