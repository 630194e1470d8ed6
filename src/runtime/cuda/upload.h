// Copies to a CUDA device from page-locked memory, on a stream of their own: a C interface of libeasel_cuda.so, as
// plugin.h. The functions return null, or a sentence on what failed.
#pragma once

#include <stdint.h>

extern "C" {

struct EaselCudaUpload;

// Takes `count` page-locked buffers of `bytes` each; their addresses go to buffers[0] and on. Null on failure, with one
// sentence in *why.
EaselCudaUpload* easel_cuda_upload_open(int32_t device, int32_t count, int64_t bytes, void** buffers, const char** why);

// Copies that are begun from now on come behind the present work of ATen's current stream, which may still use the
// memory that they write.
const char* easel_cuda_upload_begin(EaselCudaUpload* upload);

// Begins a copy to the device; `from` lies in a buffer.
const char* easel_cuda_upload_copy(EaselCudaUpload* upload, void* to, const void* from, int64_t bytes);

// Marks all copies begun so far as the buffer's, and waits for a buffer's mark; there is nothing to wait for before
// the first.
const char* easel_cuda_upload_record(EaselCudaUpload* upload, int32_t buffer);
const char* easel_cuda_upload_wait(EaselCudaUpload* upload, int32_t buffer);

// What ATen's current stream is given from now on comes behind the copies begun so far.
const char* easel_cuda_upload_end(EaselCudaUpload* upload);

// Waits for all copies and frees the buffers.
void easel_cuda_upload_close(EaselCudaUpload* upload);
}
