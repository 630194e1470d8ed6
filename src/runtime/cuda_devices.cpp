#include <dlfcn.h>

#include "easel/runtime.h"
#include "runtime/cuda/plugin.h"

namespace easel {

namespace {

struct Found {
  void* library = nullptr;
  std::vector<CudaDevice> devices = {};
  std::string why = {};  // there are none
};

// The plug-in lies beside the program.
std::filesystem::path plugin_path() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  return program.parent_path() / "libeasel_cuda.so";
}

// Opening libtorch_cuda takes a tenth of a second, which a machine without a driver need not pay.
bool has_driver() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver != nullptr) dlclose(driver);
  return driver != nullptr;
}

Found ask_plugin() {
  const std::filesystem::path path = plugin_path();
  std::error_code error;
  if (!has_driver()) return {.why = "there is no NVIDIA driver (libcuda.so.1)"};
  if (!std::filesystem::exists(path, error))
    return {.why = "this build has no CUDA part (" + path.string() +
                   "): it needs nvcc and libtorch_cuda when it is built"};
  // Global: libtorch_cuda's registrations and libtorch_cpu's must see each other's symbols.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) return {.why = std::string("the CUDA part cannot be opened: ") + dlerror()};

  const auto abi = reinterpret_cast<decltype(&easel_cuda_abi)>(dlsym(library, "easel_cuda_abi"));
  const auto list = reinterpret_cast<decltype(&easel_cuda_devices)>(dlsym(library, "easel_cuda_devices"));
  if (abi == nullptr || list == nullptr || abi() != EASEL_CUDA_ABI)
    return {.why = path.string() + " belongs to another version of Easel; build again"};

  EaselCudaDevice raw[16];
  char why[256] = "";
  const int32_t count = list(raw, std::size(raw), why, sizeof why);
  if (count < 0) return {.why = why};
  if (count == 0) return {.why = "the driver reports no CUDA device"};
  Found found{.library = library};
  for (int32_t i = 0; i < std::min<int32_t>(count, std::size(raw)); ++i)
    found.devices.push_back({i, raw[i].name, raw[i].major, raw[i].minor, raw[i].total_bytes, raw[i].free_bytes});
  return found;
}

const Found& plugin() {
  static const Found found = ask_plugin();
  return found;
}

}  // namespace

void* cuda_function(const char* name) {
  void* function = plugin().library == nullptr ? nullptr : dlsym(plugin().library, name);
  TORCH_CHECK(function != nullptr, "the CUDA part has no ", name);
  return function;
}

const std::vector<CudaDevice>& cuda_devices(std::string* why) {
  const Found& found = plugin();
  if (why != nullptr) *why = found.why;
  return found.devices;
}

}  // namespace easel
