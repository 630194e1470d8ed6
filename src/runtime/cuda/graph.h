// CUDA graphs with memory of ATen's allocator: a C interface of libeasel_cuda.so, as plugin.h. The functions return
// null, or a sentence on what failed, which is valid until the thread's next call.
#pragma once

#include <stdint.h>

extern "C" {

struct EaselCudaGraph;

// Begins a capture: until its end ATen's current stream of this thread is one whose work is recorded and not run. The
// device is idle and ATen's unused memory given back when it begins. Null on failure, with one sentence in *why.
EaselCudaGraph* easel_cuda_graph_begin(int32_t device, const char** why);

// Ends the capture; the thread's stream is the one before again, also on failure.
const char* easel_cuda_graph_end(EaselCudaGraph* graph);

// Runs it on ATen's current stream.
const char* easel_cuda_graph_replay(EaselCudaGraph* graph);

// Frees it and its memory; a capture that was not ended is given up.
void easel_cuda_graph_close(EaselCudaGraph* graph);
}
