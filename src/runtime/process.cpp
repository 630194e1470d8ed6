// What the operating system knows of this process and this machine.
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <limits>

#include "easel/runtime.h"
#include "runtime/reused_memory.h"

namespace easel {

namespace {

// The number after "NAME:" in a /proc file of "NAME: 123 kB" lines; 0 where there is none.
int64_t proc_kilobytes(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1));
  }
  return 0;
}

// What the cgroup (version 2) still allows; the maximum where it sets no limit.
int64_t cgroup_available() {
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  int64_t limit = 0, used = 0;
  if (!(std::ifstream("/sys/fs/cgroup/memory.max") >> limit)) return kNone;  // "max", or no such file
  if (!(std::ifstream("/sys/fs/cgroup/memory.current") >> used)) return kNone;
  return std::max<int64_t>(0, limit - used);
}

}  // namespace

int64_t peak_memory_bytes() { return proc_kilobytes("/proc/self/status", "VmHWM") * 1024; }

int64_t available_memory_bytes() {
  return std::min(proc_kilobytes("/proc/meminfo", "MemAvailable") * 1024, cgroup_available()) +
         static_cast<int64_t>(kept_memory_bytes());
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

namespace {

std::atomic<Kernels> kernels_in_use = Kernels::kFast;

}  // namespace

Kernels kernels() { return kernels_in_use; }
void set_kernels(Kernels kernels) { kernels_in_use = kernels; }

void set_threads(int count) {
  if (count > 0) at::set_num_threads(count);
}

}  // namespace easel
