#include "runtime/reused_memory.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>

#include "easel/runtime.h"

namespace easel {

namespace {

// Null where there is none. It begins at a huge page.
void* map(std::size_t bytes) {
  const std::size_t wide = bytes + ReusedMemory::kLarge;
  void* const all = ::mmap(nullptr, wide, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<char*>(all);
  const std::size_t head =
      (ReusedMemory::kLarge - reinterpret_cast<std::uintptr_t>(all) % ReusedMemory::kLarge) % ReusedMemory::kLarge;
  if (head > 0) ::munmap(begin, head);
  if (wide > head + bytes) ::munmap(begin + head + bytes, wide - head - bytes);
  ::madvise(begin + head, bytes, MADV_HUGEPAGE);  // best effort
  return begin + head;
}

std::size_t whole_pages(std::size_t bytes) {
  constexpr std::size_t kPage = 4096;
  return (bytes + kPage - 1) / kPage * kPage;
}

std::atomic<ReusedMemory*> the_one = nullptr;

}  // namespace

ReusedMemory::ReusedMemory(c10::Allocator& smaller, std::size_t most) : smaller_(smaller), most_(most) {
  ReusedMemory* none = nullptr;
  TORCH_CHECK(the_one.compare_exchange_strong(none, this), "a second ReusedMemory");
}

ReusedMemory::~ReusedMemory() {
  release_all();
  the_one = nullptr;
}

c10::DataPtr ReusedMemory::allocate(std::size_t bytes) {
  if (bytes < kLarge) return smaller_.allocate(bytes);
  void* memory = take(bytes);
  if (memory == nullptr) {
    release_all();
    memory = take(bytes);
  }
  if (memory == nullptr) return smaller_.allocate(bytes);  // which says that there is none
  return {memory, memory, &free, at::Device(at::kCPU)};
}

void ReusedMemory::free(void* memory) {
  ReusedMemory& own = *the_one;
  if (!own.give_back(memory)) own.smaller_.raw_deleter()(memory);
}

// Of the kept blocks the smallest that is large enough and wastes no more than a quarter, or else a new one.
void* ReusedMemory::take(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = kept_.lower_bound(bytes);
  if (found == kept_.end() || found->first > bytes + bytes / 4) {
    const std::size_t size = whole_pages(bytes);
    void* const memory = map(size);
    if (memory != nullptr) used_.emplace(memory, size);
    return memory;
  }
  void* const memory = found->second.memory;
  used_.emplace(memory, found->first);
  kept_bytes_ -= found->first;
  kept_.erase(found);
  return memory;
}

bool ReusedMemory::give_back(void* memory) {
  const std::lock_guard lock(mutex_);
  const auto used = used_.find(memory);
  if (used == used_.end()) return false;
  kept_.emplace(used->second, Freed{memory, count_++});
  kept_bytes_ += used->second;
  used_.erase(used);
  while (kept_bytes_ > most_) {
    const auto oldest = std::min_element(kept_.begin(), kept_.end(),
                                         [](const auto& a, const auto& b) { return a.second.when < b.second.when; });
    ::munmap(oldest->second.memory, oldest->first);
    kept_bytes_ -= oldest->first;
    kept_.erase(oldest);
  }
  return true;
}

void ReusedMemory::release_all() {
  const std::lock_guard lock(mutex_);
  for (const auto& [bytes, freed] : kept_) ::munmap(freed.memory, bytes);
  kept_.clear();
  kept_bytes_ = 0;
}

std::size_t ReusedMemory::kept_bytes() const {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

std::size_t kept_memory_bytes() {
  const ReusedMemory* const one = the_one;
  return one == nullptr ? 0 : one->kept_bytes();
}

void reuse_memory() {
  constexpr std::size_t kMost = std::size_t{512} << 20;
  // ATen's from now on: it is never given back.
  c10::SetCPUAllocator(new ReusedMemory(*c10::GetDefaultCPUAllocator(), kMost), /*priority=*/1);
}

}  // namespace easel
