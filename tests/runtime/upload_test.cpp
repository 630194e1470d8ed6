// The bookkeeping of uploads on a device of this file's own. Nothing here says that a GPU copies.
#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "easel/runtime.h"
#include "runtime/upload_ring.h"

namespace easel {
namespace {

// A device as late as it may be: it copies only what somebody waits for.
class LateDevice : public UploadChannel {
 public:
  void copy(void* to, const void* from, int64_t bytes) override {
    begun_.push_back({to, from, bytes});
    ++begun_count_;
    longest_ = std::max(longest_, begun_.size());
  }
  void record(int buffer) override { marks_[static_cast<std::size_t>(buffer)] = begun_count_; }
  void wait(int buffer) override { finish(marks_[static_cast<std::size_t>(buffer)]); }
  void finish() { finish(begun_count_); }
  std::size_t longest() const { return longest_; }

 private:
  struct Copy {
    void* to;
    const void* from;
    int64_t bytes;
  };

  void finish(int64_t until) {
    for (; done_ < until; ++done_, begun_.pop_front()) {
      const Copy& copy = begun_.front();
      std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.bytes));
    }
  }

  std::deque<Copy> begun_;
  int64_t begun_count_ = 0, done_ = 0;
  std::array<int64_t, UploadRing::kBuffers> marks_ = {};
  std::size_t longest_ = 0;
};

using Bytes = std::vector<char>;

Bytes random_bytes(std::mt19937& random, int64_t count) {
  Bytes bytes(static_cast<std::size_t>(count));
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

void expect_all_arrive(const std::vector<int64_t>& sizes, int64_t capacity) {
  std::mt19937 random(1);
  LateDevice device;
  Bytes first(static_cast<std::size_t>(capacity)), second = first;
  UploadRing ring(device, {first.data(), second.data()}, capacity);
  std::vector<Bytes> sent, arrived;
  for (const int64_t size : sizes) {
    sent.push_back(random_bytes(random, size));
    arrived.emplace_back(static_cast<std::size_t>(size));
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Bytes given = sent[i];
    ring.send(arrived[i].data(), given.data(), sizes[i]);
    std::fill(given.begin(), given.end(), char{0});  // the caller may free it
  }
  device.finish();
  for (std::size_t i = 0; i < sizes.size(); ++i)
    EXPECT_TRUE(arrived[i] == sent[i]) << "tensor " << i << " of " << sizes[i] << " bytes, buffers of " << capacity;
}

TEST(UploadRing, NoBufferIsFilledBeforeItsCopiesAreDone) {
  for (const int64_t capacity : {1, 64}) {
    expect_all_arrive({capacity - 1, capacity, capacity + 1, 0, 1, 2 * capacity, 3 * capacity + 5, 7 * capacity},
                      capacity);
    expect_all_arrive({5 * capacity}, capacity);
    expect_all_arrive(std::vector<int64_t>(50, 3), capacity);
  }
}

TEST(UploadRing, LargeTensors) { expect_all_arrive({(int64_t{5} << 20) + 3, int64_t{2} << 20, 9}, int64_t{2} << 20); }

// Two buffers' worth of copies may be under way, so that the device always has one to go on with.
TEST(UploadRing, OneBufferIsCopiedWhileTheOtherIsFilled) {
  LateDevice device;
  Bytes first(64), second(64);
  UploadRing ring(device, {first.data(), second.data()}, 64);
  const Bytes from(640);
  Bytes to(640);
  ring.send(to.data(), from.data(), 640);
  EXPECT_EQ(device.longest(), 2u);
}

TEST(DeviceUpload, LeavesTheProcessorsTensorsAlone) {
  const Tensor x = at::randn({3, 5});
  DeviceUpload upload(at::kCPU);
  EXPECT_TRUE(upload(x).is_same(x));
  EXPECT_TRUE(DeviceUpload(at::kMeta)(x).is_meta());
}

}  // namespace
}  // namespace easel
