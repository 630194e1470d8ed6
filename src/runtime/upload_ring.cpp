#include "runtime/upload_ring.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

namespace easel {

namespace {

// One core copies slower than a device takes it.
void copy_in_parallel(char* to, const char* from, int64_t bytes) {
  constexpr int64_t kGrain = int64_t{1} << 20;
  at::parallel_for(0, bytes, kGrain, [&](int64_t begin, int64_t end) {
    std::memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin));
  });
}

}  // namespace

void UploadRing::turn() {
  channel_.record(current_);
  is_marked_[static_cast<std::size_t>(current_)] = true;
  current_ = (current_ + 1) % kBuffers;
  if (is_marked_[static_cast<std::size_t>(current_)]) channel_.wait(current_);
  used_ = 0;
}

void UploadRing::send(void* to, const void* from, int64_t bytes) {
  for (int64_t sent = 0; sent < bytes;) {
    if (used_ == capacity_) turn();
    const int64_t count = std::min(bytes - sent, capacity_ - used_);
    char* room = static_cast<char*>(buffers_[static_cast<std::size_t>(current_)]) + used_;
    copy_in_parallel(room, static_cast<const char*>(from) + sent, count);
    channel_.copy(static_cast<char*>(to) + sent, room, count);
    used_ += count;
    sent += count;
  }
}

}  // namespace easel
