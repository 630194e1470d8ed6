// runtime: devices, dtype per stage, random streams, threads, timings.
#pragma once

#include "easel/core.h"
#include "easel/tensor.h"

namespace easel {

// ---- dtypes and devices -------------------------------------------------------------------------------------------

enum class DtypeChoice { kAuto, kF32, kF16, kBF16, kInt8 };

// "auto", "f32", "f16", "bf16", "int8". Throws Error(kUsage) for another word.
DtypeChoice dtype_choice(std::string_view word);

// Where and in which precision each stage computes.
struct Precision {
  at::Device device = at::kCPU;
  at::ScalarType text = at::kFloat;
  at::ScalarType unet = at::kFloat;
  at::ScalarType vae = at::kFloat;
  bool int8 = false;  // the linears of the U-Net's transformer blocks in eight bits, the rest as above

  std::string dtype_name() const;   // "f32", "f16", "bf16", "int8": the U-Net's, for the picture's metadata
  std::string device_name() const;  // "cpu", "cuda", "cuda:1"
};

// Resolves `--device auto|cpu|cuda[:N]` and `--dtype`. auto device: CUDA when the plug-in opens and finds a device,
// else CPU. auto dtype: CUDA f16; CPU bf16 where the processor multiplies bf16 natively (AMX-BF16 or AVX512-BF16), else
// f32. Throws Error(kUsage) for words it does not know, Error(kFile) when cuda is asked for and cannot be had (saying
// why).
Precision resolve_precision(std::string_view device, DtypeChoice dtype);

// True where bf16 matrix products run natively (design: emulated bf16 loses to f32).
bool cpu_has_native_bf16();

// Whether the processor sums products of eight-bit numbers (AVX512-VNNI), which int8 needs.
bool cpu_has_int8();

std::string dtype_name(at::ScalarType dtype);  // "f32", "f16", "bf16", "i64", …

// ---- the CUDA plug-in ---------------------------------------------------------------------------------------------

struct CudaDevice {
  int index;
  std::string name;
  int major, minor;  // compute capability
  int64_t total_bytes, free_bytes;
};

// Opens libeasel_cuda.so (and with it libtorch_cuda) once, before anything asks ATen's CUDA hooks. Empty when there is
// no plug-in, no driver or no device; `why` (if given) then receives one sentence.
const std::vector<CudaDevice>& cuda_devices(std::string* why = nullptr);

// A function of the plug-in, which has found a device. The caller knows its type (the interface.h of the room).
void* cuda_function(const char* name);
template <typename Function>
Function* cuda_function(const char* name) {
  return reinterpret_cast<Function*>(cuda_function(name));
}

// Copies tensors to a device. To a CUDA device they go through two page-locked buffers of 16 MB, which it holds for as
// long as it lives: the driver copies from one on a stream of its own while the next tensor is read into the other.
// For one thread.
class DeviceUpload {
 public:
  explicit DeviceUpload(at::Device device);
  ~DeviceUpload();
  DeviceUpload(const DeviceUpload&) = delete;

  // The tensor on the device, for work that is given to ATen's current stream from now on; `source` may be freed. The
  // same tensor where it is there already.
  Tensor operator()(const Tensor& source);

 private:
  class Cuda;
  void open();

  at::Device device_;
  bool is_tried_ = false;
  std::unique_ptr<Cuda> cuda_;  // null: copied from ordinary memory
};

// ---- randomness ---------------------------------------------------------------------------------------------------

// One picture's random stream: torch's CPU mt19937 seeded with the picture's seed, on every device, so that the numbers
// equal torch.Generator("cpu").manual_seed(seed) in Python. torch uses the low 32 bits of a seed. Draws are float32.
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed);
  // N(0, 1) of this shape, float32, CPU. Draw whole tensors of the reference's shape: torch's path differs below 16.
  Tensor randn(at::IntArrayRef shape);

 private:
  at::Generator generator_;
};

// A seed below 2^32 from the system's entropy source.
uint64_t random_seed();

// ---- memory and time ----------------------------------------------------------------------------------------------

int64_t peak_memory_bytes();       // VmHWM of this process
int64_t available_memory_bytes();  // MemAvailable, bounded by the cgroup limit, and what reuse_memory() keeps

// From now on the memory of large CPU tensors, of 2 MB and more, is kept when it is freed, up to 512 MB of it, for the
// next of about their size; and it lies in huge pages where the system gives them.
void reuse_memory();

// Which kernels the CPU computes with: Easel's own with weights packed for oneDNN, or ATen's, which they are tested
// against. For networks that are loaded afterwards.
enum class Kernels { kFast, kPlain };
Kernels kernels();
void set_kernels(Kernels kernels);

// Seconds since some fixed point; monotonic.
double now_seconds();

void set_threads(int count);  // 0: ATen's own choice

}  // namespace easel
