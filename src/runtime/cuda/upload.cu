#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>
#include <vector>

#include "runtime/cuda/upload.h"

struct EaselCudaUpload {
  c10::DeviceIndex device = 0;
  cudaStream_t stream = nullptr;
  cudaEvent_t between = nullptr;  // this stream and ATen's
  struct Buffer {
    void* memory = nullptr;
    cudaEvent_t passed = nullptr;
  };
  std::vector<Buffer> buffers;

  ~EaselCudaUpload() {
    const c10::cuda::CUDAGuard guard(device);
    if (stream != nullptr) cudaStreamSynchronize(stream);
    for (const Buffer& buffer : buffers) {
      if (buffer.passed != nullptr) cudaEventDestroy(buffer.passed);
      if (buffer.memory != nullptr) cudaFreeHost(buffer.memory);
    }
    if (between != nullptr) cudaEventDestroy(between);
    if (stream != nullptr) cudaStreamDestroy(stream);
  }

  cudaError_t open(int32_t count, int64_t bytes) {
    const c10::cuda::CUDAGuard guard(device);
    // Not one that waits for the default stream by itself: what must wait is said.
    if (const cudaError_t status = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)) return status;
    if (const cudaError_t status = cudaEventCreateWithFlags(&between, cudaEventDisableTiming)) return status;
    buffers.resize(static_cast<size_t>(count));
    for (Buffer& buffer : buffers) {
      if (const cudaError_t status = cudaEventCreateWithFlags(&buffer.passed, cudaEventDisableTiming)) return status;
      if (const cudaError_t status = cudaHostAlloc(&buffer.memory, static_cast<size_t>(bytes), cudaHostAllocDefault))
        return status;
    }
    return cudaSuccess;
  }

  // Later work of `second` comes behind the present work of `first`.
  const char* order(cudaStream_t first, cudaStream_t second) const;
};

namespace {

const char* sentence(cudaError_t status) {
  if (status == cudaSuccess) return nullptr;
  cudaGetLastError();  // ATen would find it at its next launch
  return cudaGetErrorString(status);
}

}  // namespace

const char* EaselCudaUpload::order(cudaStream_t first, cudaStream_t second) const {
  const c10::cuda::CUDAGuard guard(device);
  if (const char* fault = sentence(cudaEventRecord(between, first))) return fault;
  return sentence(cudaStreamWaitEvent(second, between, 0));
}

extern "C" EaselCudaUpload* easel_cuda_upload_open(int32_t device, int32_t count, int64_t bytes, void** buffers,
                                                   const char** why) {
  auto upload = std::make_unique<EaselCudaUpload>();
  upload->device = static_cast<c10::DeviceIndex>(device);
  *why = sentence(upload->open(count, bytes));
  if (*why != nullptr) return nullptr;
  for (const EaselCudaUpload::Buffer& buffer : upload->buffers) *buffers++ = buffer.memory;
  return upload.release();
}

extern "C" const char* easel_cuda_upload_begin(EaselCudaUpload* upload) {
  return upload->order(c10::cuda::getCurrentCUDAStream(upload->device), upload->stream);
}

extern "C" const char* easel_cuda_upload_copy(EaselCudaUpload* upload, void* to, const void* from, int64_t bytes) {
  return sentence(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, upload->stream));
}

extern "C" const char* easel_cuda_upload_record(EaselCudaUpload* upload, int32_t buffer) {
  return sentence(cudaEventRecord(upload->buffers[static_cast<size_t>(buffer)].passed, upload->stream));
}

extern "C" const char* easel_cuda_upload_wait(EaselCudaUpload* upload, int32_t buffer) {
  return sentence(cudaEventSynchronize(upload->buffers[static_cast<size_t>(buffer)].passed));
}

extern "C" const char* easel_cuda_upload_end(EaselCudaUpload* upload) {
  return upload->order(upload->stream, c10::cuda::getCurrentCUDAStream(upload->device));
}

extern "C" void easel_cuda_upload_close(EaselCudaUpload* upload) { delete upload; }
