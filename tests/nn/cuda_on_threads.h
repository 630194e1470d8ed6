// Runs a CUDA kernel on the CPU: the threads of a block are threads that wait for each other at __syncthreads(), the
// blocks come one after the other. Included before the kernels.
#pragma once

#include <barrier>
#include <cmath>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static  // one block at a time

namespace easel::testing {

struct Place {
  unsigned x;
};

struct Block {
  Place index{}, size{};
  std::barrier<>* threads = nullptr;
};

inline Block block;

}  // namespace easel::testing

inline thread_local easel::testing::Place threadIdx;
#define blockIdx (easel::testing::block.index)
#define blockDim (easel::testing::block.size)
#define __syncthreads() easel::testing::block.threads->arrive_and_wait()

namespace easel::testing {

template <typename Kernel, typename... Arguments>
void launch(Kernel kernel, int64_t blocks, int64_t threads, Arguments... arguments) {
  std::barrier<> together(threads);
  const auto size = static_cast<unsigned>(threads);
  std::vector<std::thread> all;
  for (unsigned t = 0; t < size; ++t) {
    all.emplace_back([&, t] {
      threadIdx.x = t;
      for (unsigned b = 0; b < static_cast<unsigned>(blocks); ++b) {
        if (t == 0) block = {.index = {b}, .size = {size}, .threads = &together};
        together.arrive_and_wait();
        kernel(arguments...);
        together.arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : all) thread.join();
}

}  // namespace easel::testing
