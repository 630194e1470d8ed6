// The memory of large CPU tensors, which is used again.
#pragma once

#include <c10/core/Allocator.h>

#include <map>
#include <mutex>
#include <unordered_map>

namespace easel {

// Where ATen has the memory of CPU tensors from. Blocks of kLarge bytes and more come straight from the system, in huge
// pages where it gives them, and are kept when they are freed, up to `most` bytes in all, for the next tensors of about
// their size: the system clears every page that it hands out, for tens of megabytes at a time, which took 9 % of
// decoding a picture. Smaller ones are c10's.
class ReusedMemory : public c10::Allocator {
 public:
  static constexpr std::size_t kLarge = std::size_t{2} << 20;  // a huge page

  // smaller: c10's allocator. There can be one of them: c10's deleters are plain functions.
  ReusedMemory(c10::Allocator& smaller, std::size_t most);
  ~ReusedMemory() override;
  ReusedMemory(const ReusedMemory&) = delete;

  // Throws what c10's throws where there is no memory.
  c10::DataPtr allocate(std::size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, std::size_t count) const override { default_copy_data(to, from, count); }

  std::size_t kept_bytes() const;  // that no tensor has

 private:
  struct Freed {
    void* memory;
    uint64_t when;
  };

  static void free(void* memory);  // of either size
  void* take(std::size_t bytes);
  bool give_back(void* memory);  // false: it is none of this
  void release_all();

  c10::Allocator& smaller_;
  const std::size_t most_;
  mutable std::mutex mutex_;
  std::unordered_map<void*, std::size_t> used_;  // bytes of tensors' blocks
  std::multimap<std::size_t, Freed> kept_;       // by size
  std::size_t kept_bytes_ = 0;
  uint64_t count_ = 0;  // of blocks freed so far
};

// What the one that reuse_memory() made keeps; 0 before.
std::size_t kept_memory_bytes();

}  // namespace easel
