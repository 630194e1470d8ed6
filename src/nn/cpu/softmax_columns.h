// The softmax of scores that lie in columns side by side; for processors with AVX2 or AVX512.
#pragma once

#include "nn/cpu/products.h"

namespace easel::cpu {

// [rows][run_columns()], of which the first columns are there: each holds what one query has for some of its keys.
struct ScoreStrip {
  float* scores;
  int64_t rows, columns;
};

// Of each column: shift = max(shift, its largest · scale), factor = 2^(shift before − shift now). Whether any rose. Of
// NaN nothing is said.
bool raise_shifts(const ScoreStrip& s, float scale, float* shift, float* factor);

// scores = 2^(score·scale − shift), which is at most 1, to 2e-7 relative, 2^−100 for all below it; the sum of each
// column is added to total. NaN stays NaN.
//
// Why not less than 2^−100: times a value it would be a denormal number, which a product of Intel's takes a hundred
// times as long to store; attention whose scores lie far apart took four times as long.
void exponentials_in_place(const ScoreStrip& s, float scale, const float* shift, float* total);

}  // namespace easel::cpu
