#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <memory>
#include <string>

#include "runtime/cuda/graph.h"

namespace {

// call(), and what it throws as a sentence.
template <typename Call>
const char* sentence(const Call& call) {
  thread_local std::string text;
  try {
    call();
    return nullptr;
  } catch (const c10::Error& error) {
    text = error.what_without_backtrace();
  } catch (const std::exception& error) {
    text = error.what();
  }
  cudaGetLastError();  // ATen would find it at its next launch
  return text.c_str();
}

// One for all captures of a device: cuBLAS keeps a workspace for each stream that it has seen.
c10::cuda::CUDAStream capture_stream(c10::DeviceIndex device) {
  thread_local std::map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
  const auto found = streams.find(device);
  if (found != streams.end()) return found->second;
  return streams.emplace(device, c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)).first->second;
}

}  // namespace

struct EaselCudaGraph {
  c10::DeviceIndex device;
  c10::cuda::CUDAStream before;
  c10::MempoolId_t pool = at::cuda::graph_pool_handle();
  at::cuda::CUDAGraph graph;
  bool is_capturing = false;

  explicit EaselCudaGraph(c10::DeviceIndex index) : device(index), before(c10::cuda::getCurrentCUDAStream(index)) {}

  // As torch.cuda.graph does it.
  void begin() {
    const c10::cuda::CUDAGuard guard(device);
    C10_CUDA_CHECK(cudaDeviceSynchronize());
    c10::cuda::CUDACachingAllocator::emptyCache();
    c10::cuda::setCurrentCUDAStream(capture_stream(device));
    try {
      graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
      is_capturing = true;
    } catch (...) {
      give_up();
      throw;
    }
  }

  void end() {
    const c10::cuda::CUDAGuard guard(device);
    is_capturing = false;
    try {
      graph.capture_end();
    } catch (...) {
      give_up();
      throw;
    }
    c10::cuda::setCurrentCUDAStream(before);
  }

 private:
  void give_up() const {
    c10::cuda::setCurrentCUDAStream(before);
    // A capture that fails early leaves ATen's allocator waiting for its end; one that fails late does not, and this
    // call then throws.
    sentence([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool); });
  }
};

extern "C" EaselCudaGraph* easel_cuda_graph_begin(int32_t device, const char** why) {
  EaselCudaGraph* begun = nullptr;
  *why = sentence([&] {
    auto graph = std::make_unique<EaselCudaGraph>(static_cast<c10::DeviceIndex>(device));
    graph->begin();
    begun = graph.release();
  });
  return begun;
}

extern "C" const char* easel_cuda_graph_end(EaselCudaGraph* graph) {
  return sentence([&] { graph->end(); });
}

extern "C" const char* easel_cuda_graph_replay(EaselCudaGraph* graph) {
  return sentence([&] { graph->graph.replay(); });
}

extern "C" void easel_cuda_graph_close(EaselCudaGraph* graph) {
  if (graph->is_capturing) easel_cuda_graph_end(graph);
  delete graph;
}
