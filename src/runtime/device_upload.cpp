#include "easel/runtime.h"
#include "runtime/cuda/upload.h"
#include "runtime/upload_ring.h"

namespace easel {

namespace {

constexpr int64_t kBufferBytes = int64_t{16} << 20;  // 0.3 to 1.3 ms of a PCIe bus: far more than a copy's start costs

void check(const char* fault) { TORCH_CHECK(fault == nullptr, "upload to the CUDA device: ", fault); }

}  // namespace

class DeviceUpload::Cuda : public UploadChannel {
 public:
  // Throws where there is no page-locked memory.
  explicit Cuda(at::Device device) : device_(device) {
    const char* why = nullptr;
    handle_ = cuda_function<decltype(easel_cuda_upload_open)>("easel_cuda_upload_open")(
        device.index(), UploadRing::kBuffers, kBufferBytes, buffers_.data(), &why);
    TORCH_CHECK(handle_ != nullptr, "no page-locked memory: ", why);
    ring_.emplace(*this, buffers_, kBufferBytes);
  }
  ~Cuda() override { close_(handle_); }
  Cuda(const Cuda&) = delete;

  Tensor sent(const Tensor& source) {
    const Tensor from = source.contiguous();
    Tensor to = at::empty(from.sizes(), from.options().device(device_));
    check(begin_(handle_));
    ring_->send(to.mutable_data_ptr(), from.const_data_ptr(), static_cast<int64_t>(from.nbytes()));
    check(end_(handle_));
    return to;
  }

  void copy(void* to, const void* from, int64_t bytes) override { check(copy_(handle_, to, from, bytes)); }
  void record(int buffer) override { check(record_(handle_, buffer)); }
  void wait(int buffer) override { check(wait_(handle_, buffer)); }

 private:
  using Call = const char* (*)(EaselCudaUpload*);
  using CallOfBuffer = const char* (*)(EaselCudaUpload*, int32_t);

  at::Device device_;
  Call begin_ = cuda_function<decltype(easel_cuda_upload_begin)>("easel_cuda_upload_begin");
  Call end_ = cuda_function<decltype(easel_cuda_upload_end)>("easel_cuda_upload_end");
  CallOfBuffer record_ = cuda_function<decltype(easel_cuda_upload_record)>("easel_cuda_upload_record");
  CallOfBuffer wait_ = cuda_function<decltype(easel_cuda_upload_wait)>("easel_cuda_upload_wait");
  decltype(&easel_cuda_upload_copy) copy_ = cuda_function<decltype(easel_cuda_upload_copy)>("easel_cuda_upload_copy");
  decltype(&easel_cuda_upload_close) close_ =
      cuda_function<decltype(easel_cuda_upload_close)>("easel_cuda_upload_close");
  std::array<void*, UploadRing::kBuffers> buffers_ = {};
  EaselCudaUpload* handle_ = nullptr;
  std::optional<UploadRing> ring_;
};

DeviceUpload::DeviceUpload(at::Device device) : device_(device) {}
DeviceUpload::~DeviceUpload() = default;

void DeviceUpload::open() {
  is_tried_ = true;
  try {
    cuda_ = std::make_unique<Cuda>(device_);
  } catch (const c10::Error& error) {
    log::verbose(std::string("weights are uploaded from ordinary memory: ") + error.what_without_backtrace());
  }
}

Tensor DeviceUpload::operator()(const Tensor& source) {
  if (!device_.is_cuda() || !source.is_cpu() || source.numel() == 0) return source.to(device_);
  if (!is_tried_) open();
  return cuda_ ? cuda_->sent(source) : source.to(device_);
}

}  // namespace easel
