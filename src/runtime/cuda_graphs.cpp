#include <atomic>

#include "easel/runtime.h"
#include "easel/step_graph.h"
#include "runtime/cuda/graph.h"

namespace easel {

namespace {

std::atomic<bool> has_failed = false;

class CudaWork : public CapturedWork {
 public:
  // Begins a capture.
  explicit CudaWork(at::Device device) {
    const char* why = nullptr;
    handle_ = cuda_function<decltype(easel_cuda_graph_begin)>("easel_cuda_graph_begin")(device.index(), &why);
    TORCH_CHECK(handle_ != nullptr, "a CUDA graph's capture does not begin: ", why);
  }
  ~CudaWork() override { close_(handle_); }
  CudaWork(const CudaWork&) = delete;

  void end() const {
    const char* fault = cuda_function<decltype(easel_cuda_graph_end)>("easel_cuda_graph_end")(handle_);
    TORCH_CHECK(fault == nullptr, "a CUDA graph is not captured: ", fault);
  }
  void replay() override {
    const char* fault = replay_(handle_);
    TORCH_CHECK(fault == nullptr, "a CUDA graph on the device: ", fault);
  }

 private:
  decltype(&easel_cuda_graph_replay) replay_ =
      cuda_function<decltype(easel_cuda_graph_replay)>("easel_cuda_graph_replay");
  decltype(&easel_cuda_graph_close) close_ = cuda_function<decltype(easel_cuda_graph_close)>("easel_cuda_graph_close");
  EaselCudaGraph* handle_ = nullptr;
};

class CudaGraphs : public GraphBackend {
 public:
  explicit CudaGraphs(at::Device device) : device_(device) {}

  std::unique_ptr<CapturedWork> capture(const std::function<void()>& work) override {
    try {
      auto captured = std::make_unique<CudaWork>(device_);
      work();
      captured->end();
      return captured;
    } catch (...) {
      has_failed = true;
      throw;
    }
  }

 private:
  at::Device device_;
};

}  // namespace

std::unique_ptr<GraphBackend> cuda_graphs(at::Device device) {
  if (!device.is_cuda() || kernels() != Kernels::kFast || has_failed) return nullptr;
  return std::make_unique<CudaGraphs>(device);
}

}  // namespace easel
