// The processor's matrix tiles (Intel AMX): eight registers of 16 rows of 64 bytes, a state of the thread.
#pragma once

#include <ATen/ATen.h>

#include <cstddef>

#include "nn/cpu/instruction_sets.h"

namespace easel::cpu::amx {

// Whether the processor has tiles of bfloat16 and the system lends them to this process.
bool has_tiles();

// While one lives, its thread's tiles have their full size, and numbers below 2^-126 are zeros, as they are to tiles:
// elsewhere an instruction that makes one takes a hundred times as long. Only where has_tiles().
class Tiles {
 public:
  Tiles();
  ~Tiles();
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  unsigned flags_ = 0;  // of the thread's arithmetic, before
};

// The calling thread's memory of at least so many bytes, kept from call to call: what it multiplies, in the
// second-level cache.
std::byte* room_for(std::size_t bytes);

#if defined(__x86_64__)
// Written out, because GCC 12's intrinsics do not tell the compiler that they read memory. stride: bytes from row to
// row.
template <int kTile>
inline __attribute__((always_inline)) void load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline __attribute__((always_inline)) void store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline __attribute__((always_inline)) void clear() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// kSums [16, 16] float32 += kA [16, 32] · kB, 32 rows two by two: [16, 16, 2].
template <int kSums, int kA, int kB>
inline __attribute__((always_inline)) void add_product() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}
// kSums [16, 16] int32 += kA [16, 64] of unsigned bytes · kB, 64 rows of signed ones four by four: [16, 16, 4].
template <int kSums, int kA, int kB>
inline __attribute__((always_inline)) void add_byte_product() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
}
#endif

}  // namespace easel::cpu::amx
