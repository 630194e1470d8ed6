#include "nn/cpu/amx_products.h"

#include "easel/vector_loops.h"

namespace easel::cpu::amx {

#if defined(__x86_64__)
namespace {

constexpr int64_t kLine = 64, kRowBytes = kSide * sizeof(BF16), kSumBytes = kSide * sizeof(float);
constexpr int64_t kHalf = kTileRows * kSide;  // values of the second of two tiles lie so far behind the first's

// Lines that will be read soon, a few at each step.
struct Ahead {
  const char* next;
  int64_t lines;
  EASEL_INLINE void fetch() {
    for (int64_t i = 0; i < lines; ++i, next += kLine)
      __builtin_prefetch(next, /*for writing*/ 0, /*second-level cache*/ 2);
  }
};

// Tiles 0 to 3 are the sums, 4 and 5 rows of A, 6 and 7 columns of B.
template <bool kTwo>
EASEL_INLINE void begin(const float* sums, bool adds) {
  if (!adds) {
    clear<0>(), clear<1>();
    if (kTwo) clear<2>(), clear<3>();
  } else {
    load<0>(sums, kSumBytes), load<1>(sums + kTileRows, kSumBytes);
    if (kTwo) load<2>(sums + kHalf, kSumBytes), load<3>(sums + kHalf + kTileRows, kSumBytes);
  }
}

template <bool kTwo>
EASEL_INLINE void step(const BF16* a, const BF16* b, Ahead& ahead) {
  load<4>(a, kRowBytes);
  load<6>(b, kRowBytes);
  load<7>(b + kHalf, kRowBytes);
  add_product<0, 4, 6>();
  add_product<1, 4, 7>();
  if (kTwo) load<5>(a + kHalf, kRowBytes);
  ahead.fetch();
  if (kTwo) add_product<2, 5, 6>(), add_product<3, 5, 7>();
}

template <bool kTwo>
EASEL_INLINE void end(float* sums) {
  store<0>(sums, kSumBytes), store<1>(sums + kTileRows, kSumBytes);
  if (kTwo) store<2>(sums + kHalf, kSumBytes), store<3>(sums + kHalf + kTileRows, kSumBytes);
}

// One or two tiles of rows, over some blocks of the depth.
template <bool kTwo, bool kTapped>
void add_square(const Left& a, const BF16* rows, int64_t blocks, const BF16* b, bool adds, float* sums, Ahead& ahead) {
  begin<kTwo>(sums, adds);
  for (int64_t block = 0; block < blocks; ++block, rows += a.block) {
    if constexpr (kTapped) {
      for (int64_t tap = 0; tap < kTaps; ++tap, b += kStep) step<kTwo>(rows + a.taps[tap] * kSide, b, ahead);
    } else {
      step<kTwo>(rows, b, ahead);
      b += kStep;
    }
  }
  end<kTwo>(sums);
}

template <bool kTapped>
void multiply_group_by(const Left& a, int64_t first_row, int64_t tiles, const BF16* panel, float* sums) {
  // Blocks whose part of the panel stays in the first-level cache.
  constexpr int64_t kMost = kTapped ? 1 : 10, kSteps = kTapped ? kTaps : 1;
  constexpr int64_t kLinesOfStep = kStep * sizeof(BF16) / kLine;
  const int64_t parts = (a.blocks + kMost - 1) / kMost, most = (a.blocks + parts - 1) / parts;
  const int64_t squares = (tiles + 1) / 2, lines = (kLinesOfStep + squares - 1) / squares;
  for (int64_t first = 0; first < a.blocks; first += most) {
    const int64_t blocks = std::min(most, a.blocks - first);
    const BF16* b = panel + first * kSteps * kStep;
    Ahead ahead{reinterpret_cast<const char*>(b + blocks * kSteps * kStep), lines};
    for (int64_t tile = 0; tile < tiles; tile += 2) {
      const BF16* rows = a.values + first * a.block + (first_row + tile * kTileRows) / kSide * a.square;
      const auto add = tile + 1 < tiles ? add_square<true, kTapped> : add_square<false, kTapped>;
      add(a, rows, blocks, b, /*adds=*/first > 0, sums + tile * kHalf, ahead);
    }
  }
}

}  // namespace

void multiply_group(const Left& a, int64_t first_row, int64_t tiles, const BF16* panel, float* sums) {
  const auto multiply = a.taps != nullptr ? multiply_group_by<true> : multiply_group_by<false>;
  multiply(a, first_row, tiles, panel, sums);
}
#else
void multiply_group(const Left&, int64_t, int64_t, const BF16*, float*) {}
#endif

}  // namespace easel::cpu::amx
