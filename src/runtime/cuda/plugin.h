// The C interface of libeasel_cuda.so, the only part of Easel that knows the CUDA runtime. Opening the library loads
// libtorch_cuda with it, which registers ATen's CUDA kernels.
#pragma once

#include <stdint.h>

#define EASEL_CUDA_ABI 3

extern "C" {

struct EaselCudaDevice {
  char name[256];
  int32_t major, minor;  // compute capability
  int64_t total_bytes, free_bytes;
};

// EASEL_CUDA_ABI of the library; the program refuses another.
int32_t easel_cuda_abi();

// Fills at most `capacity` devices and returns how many the driver has; -1 on failure, with one sentence in `why`.
int32_t easel_cuda_devices(EaselCudaDevice* devices, int32_t capacity, char* why, int32_t why_size);
}
