#include <cuda_runtime_api.h>

#include <cstdio>

#include "runtime/cuda/plugin.h"

extern "C" int32_t easel_cuda_abi() { return EASEL_CUDA_ABI; }

extern "C" int32_t easel_cuda_devices(EaselCudaDevice* devices, int32_t capacity, char* why, int32_t why_size) {
  const auto failed = [&](const char* call, cudaError_t status) {
    std::snprintf(why, static_cast<size_t>(why_size), "%s: %s", call, cudaGetErrorString(status));
    return -1;
  };
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess)
    return failed("cudaGetDeviceCount", status);
  for (int i = 0; i < count && i < capacity; ++i) {
    cudaDeviceProp properties;
    if (const cudaError_t status = cudaGetDeviceProperties(&properties, i); status != cudaSuccess)
      return failed("cudaGetDeviceProperties", status);
    EaselCudaDevice& device = devices[i];
    std::snprintf(device.name, sizeof device.name, "%s", properties.name);
    device.major = properties.major;
    device.minor = properties.minor;
    size_t free_bytes = 0, total_bytes = 0;
    cudaError_t status = cudaSetDevice(i);
    if (status == cudaSuccess) status = cudaMemGetInfo(&free_bytes, &total_bytes);
    if (status != cudaSuccess) return failed("cudaMemGetInfo", status);
    device.total_bytes = static_cast<int64_t>(total_bytes);
    device.free_bytes = static_cast<int64_t>(free_bytes);
  }
  if (count > 0) cudaSetDevice(0);
  return count;
}
