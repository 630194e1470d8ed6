// The way of many tensors through two buffers that a device copies from by itself.
#pragma once

#include <array>
#include <cstdint>

namespace easel {

// A device's copies, which it makes in the order in which they are begun.
class UploadChannel {
 public:
  virtual ~UploadChannel() = default;
  // Begins a copy of what lies in a buffer: neither may be written until it is done.
  virtual void copy(void* to, const void* from, int64_t bytes) = 0;
  // Marks all copies begun so far as the buffer's, and waits until those of its last mark are done.
  virtual void record(int buffer) = 0;
  virtual void wait(int buffer) = 0;
};

// While one buffer is copied to the device the other one is filled; small tensors share one.
class UploadRing {
 public:
  static constexpr int kBuffers = 2;

  // Refers to the channel. buffers: `capacity` bytes each, at least 1.
  UploadRing(UploadChannel& channel, std::array<void*, kBuffers> buffers, int64_t capacity)
      : channel_(channel), buffers_(buffers), capacity_(capacity) {}

  // `from` has been read when it returns; `to` is written when the channel's copies are done.
  void send(void* to, const void* from, int64_t bytes);

 private:
  void turn();

  UploadChannel& channel_;
  std::array<void*, kBuffers> buffers_;
  std::array<bool, kBuffers> is_marked_ = {};
  int64_t capacity_, used_ = 0;  // of the current buffer
  int current_ = 0;
};

}  // namespace easel
