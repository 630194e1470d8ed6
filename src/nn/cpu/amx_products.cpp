#include "nn/cpu/amx_products.h"

#include "easel/vector_loops.h"

namespace easel::cpu::amx {

#if defined(__x86_64__)
namespace {

constexpr int64_t kLine = 64, kRowBytes = kSide * sizeof(BF16), kSumBytes = kSide * sizeof(float);

// What is done at each step beside the products: lines are fetched that will be read soon, and rows worked on.
class Beside {
 public:
  Beside(const RowsToDo& rows, int64_t steps)
      : work_(rows.work), done_(rows.begin), end_(rows.end), rate_((((end_ - done_) << kBits) + steps - 1) / steps) {}
  void fetch_from(const BF16* next, int64_t lines) {
    next_ = reinterpret_cast<const char*>(next);
    lines_ = lines;
  }
  EASEL_INLINE void fetch() {
    for (int64_t i = 0; i < lines_; ++i, next_ += kLine)
      __builtin_prefetch(next_, /*for writing*/ 0, /*second-level cache*/ 2);
  }
  EASEL_INLINE void step() {
    for (due_ += rate_; due_ >= kOne && done_ < end_; due_ -= kOne) work_->row(done_++);
  }
  void finish() {
    while (done_ < end_) work_->row(done_++);
  }

 private:
  static constexpr int64_t kBits = 16, kOne = 1 << kBits;  // a row
  const RowWork* work_;
  int64_t done_;
  const int64_t end_, rate_;  // rate: of a step
  int64_t due_ = 0;
  const char* next_ = nullptr;
  int64_t lines_ = 0;
};

// Of tiles 0 to 3, which hold a square's sums: two rows of two tiles.
template <int kSums>
EASEL_INLINE float* place_in(float* sums) {
  return sums + kSums / 2 * kTile + kSums % 2 * kTileRows;
}

// The sums of the square before, that are stored one by one as their tiles are wanted.
struct Stored {
  float* sums;
  bool has_two;
  template <int kSums>
  EASEL_INLINE void vacate() const {
    if (sums != nullptr && (kSums < 2 || has_two)) store<kSums>(place_in<kSums>(sums), kSumBytes);
  }
};

template <int kSums>
EASEL_INLINE void begin(const Stored& before, float* sums, bool adds) {
  before.vacate<kSums>();
  if (adds)
    load<kSums>(place_in<kSums>(sums), kSumBytes);
  else
    clear<kSums>();
}

enum class Factors { kRows, kTappedRows, kBytes };

template <Factors kFactors, int kSums, int kA, int kB>
EASEL_INLINE void add() {
  if constexpr (kFactors == Factors::kBytes)
    add_byte_product<kSums, kA, kB>();
  else
    add_product<kSums, kA, kB>();
}

// Tiles 4 and 5 are rows of A, 6 and 7 columns of B.
template <bool kTwo, Factors kFactors>
EASEL_INLINE void first_step(const BF16* a, const BF16* b, const Stored& before, float* sums, bool adds) {
  load<4>(a, kRowBytes), load<6>(b, kRowBytes);
  begin<0>(before, sums, adds), add<kFactors, 0, 4, 6>();
  load<7>(b + kTile, kRowBytes);
  begin<1>(before, sums, adds), add<kFactors, 1, 4, 7>();
  if constexpr (kTwo) {
    load<5>(a + kTile, kRowBytes);
    begin<2>(before, sums, adds), add<kFactors, 2, 5, 6>();
    begin<3>(before, sums, adds), add<kFactors, 3, 5, 7>();
  } else {
    before.vacate<2>(), before.vacate<3>();
  }
}

template <bool kTwo, Factors kFactors>
EASEL_INLINE void step(const BF16* a, const BF16* b) {
  load<4>(a, kRowBytes), load<6>(b, kRowBytes), load<7>(b + kTile, kRowBytes);
  add<kFactors, 0, 4, 6>(), add<kFactors, 1, 4, 7>();
  if constexpr (kTwo) {
    load<5>(a + kTile, kRowBytes);
    add<kFactors, 2, 5, 6>(), add<kFactors, 3, 5, 7>();
  }
}

// One or two tiles of rows, over some blocks of the depth.
template <bool kTwo, Factors kFactors>
void add_square(const Left& a, const BF16* rows, int64_t blocks, const BF16* b, const Stored& before, float* sums,
                bool adds, Beside& beside) {
  constexpr bool kTapped = kFactors == Factors::kTappedRows;
  constexpr int64_t kCount = kTapped ? kTaps : 1;
  bool is_first = true;
  for (int64_t block = 0; block < blocks; ++block, rows += a.block) {
    for (int64_t tap = 0; tap < kCount; ++tap, b += kStep) {
      const BF16* from = kTapped ? rows + a.taps[tap] * kSide : rows;
      if (is_first)
        first_step<kTwo, kFactors>(from, b, before, sums, adds);
      else
        step<kTwo, kFactors>(from, b);
      is_first = false;
      beside.fetch();
      beside.step();
    }
  }
}

template <Factors kFactors>
Stored multiply_by(const Left& a, int64_t first_row, int64_t tiles, const BF16* panel, float* sums, Stored before,
                   const RowsToDo& work) {
  constexpr bool kTapped = kFactors == Factors::kTappedRows;
  // Blocks whose part of the panel stays in the first-level cache.
  constexpr int64_t kMost = kTapped ? 1 : 10, kSteps = kTapped ? kTaps : 1;
  constexpr int64_t kLinesOfStep = kStep * sizeof(BF16) / kLine;
  const int64_t parts = (a.blocks + kMost - 1) / kMost, most = (a.blocks + parts - 1) / parts;
  const int64_t squares = (tiles + 1) / 2;
  Beside beside(work, squares * a.blocks * kSteps);
  for (int64_t first = 0; first < a.blocks; first += most) {
    const int64_t blocks = std::min(most, a.blocks - first);
    const BF16* b = panel + first * kSteps * kStep;
    beside.fetch_from(b + blocks * kSteps * kStep, (kLinesOfStep + squares - 1) / squares);
    for (int64_t tile = 0; tile < tiles; tile += 2) {
      const BF16* rows = a.values + first * a.block + (first_row + tile * kTileRows) / kSide * a.square;
      const bool has_two = tile + 1 < tiles;
      const auto add_rows = has_two ? add_square<true, kFactors> : add_square<false, kFactors>;
      add_rows(a, rows, blocks, b, before, sums + tile * kTile, /*adds=*/first > 0, beside);
      before = {sums + tile * kTile, has_two};
    }
  }
  beside.finish();
  return before;
}

}  // namespace

void Products::multiply(const Left& a, int64_t first_row, int64_t tiles, const BF16* panel, float* sums,
                        const RowsToDo& rows) {
  const auto by = a.taps != nullptr ? multiply_by<Factors::kTappedRows>
                  : a.has_bytes     ? multiply_by<Factors::kBytes>
                                    : multiply_by<Factors::kRows>;
  const Stored last = by(a, first_row, tiles, panel, sums, {pending_, has_two_}, rows);
  pending_ = last.sums;
  has_two_ = last.has_two;
}

void Products::flush() {
  const Stored last{pending_, has_two_};
  last.vacate<0>(), last.vacate<1>(), last.vacate<2>(), last.vacate<3>();
  pending_ = nullptr;
}
#else
void Products::multiply(const Left&, int64_t, int64_t, const BF16*, float*, const RowsToDo&) {}
void Products::flush() {}
#endif

}  // namespace easel::cpu::amx
