// Columns of pairs of sixteen bits into rows: the order in which products want a weight.
#pragma once

#include <cstdint>

namespace easel::cpu {

// Pair p of column c, from[2 · (c · pitch + p)] and the next, to to[p · stride + c], for all columns and pairs. A
// file's values lie at any even address. `streams`: past the caches, where the rows are whole lines; each thread ends
// with finish_streams() (instruction_sets.h).
struct Turned {
  const uint16_t* from;
  uint32_t* to;
  int64_t pairs, columns, stride;
  int64_t pitch = pairs;
  bool streams = true;
};

void turn(const Turned& turned);

}  // namespace easel::cpu
