#include "runtime/reused_memory.h"

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <thread>

#include "easel/runtime.h"

namespace easel {
namespace {

constexpr std::size_t kMegabyte = std::size_t{1} << 20;

class ReusedMemoryTest : public ::testing::Test {
 protected:
  // Every byte of it is there.
  void* address_of_freed(std::size_t bytes) {
    const c10::DataPtr block = memory_.allocate(bytes);
    std::memset(block.get(), 7, bytes);
    return block.get();
  }
  ReusedMemory memory_{*c10::GetDefaultCPUAllocator(), 40 * kMegabyte};
};

TEST_F(ReusedMemoryTest, ABlockServesTheNextOfAboutItsSize) {
  void* const first = address_of_freed(10 * kMegabyte);
  EXPECT_EQ(memory_.kept_bytes(), 10 * kMegabyte);
  EXPECT_EQ(address_of_freed(9 * kMegabyte + 5), first);
  EXPECT_EQ(memory_.kept_bytes(), 10 * kMegabyte) << "whole, though less was asked for";
  const c10::DataPtr again = memory_.allocate(10 * kMegabyte);
  EXPECT_EQ(again.get(), first);
  EXPECT_EQ(memory_.kept_bytes(), 0u);
  EXPECT_NE(address_of_freed(10 * kMegabyte), first) << "in use";
}

TEST_F(ReusedMemoryTest, NotOneThatIsTooSmallOrWastesMuch) {
  address_of_freed(10 * kMegabyte);
  address_of_freed(10 * kMegabyte + 1);
  EXPECT_EQ(memory_.kept_bytes(), 20 * kMegabyte + 4096);
  address_of_freed(5 * kMegabyte);
  EXPECT_EQ(memory_.kept_bytes(), 25 * kMegabyte + 4096);
}

TEST_F(ReusedMemoryTest, TheOldestGoBeyondTheMost) {
  address_of_freed(15 * kMegabyte);
  void* const second = address_of_freed(20 * kMegabyte);
  address_of_freed(10 * kMegabyte);
  EXPECT_EQ(memory_.kept_bytes(), 30 * kMegabyte) << "without the first";
  EXPECT_EQ(address_of_freed(20 * kMegabyte), second);
  address_of_freed(50 * kMegabyte);
  EXPECT_LE(memory_.kept_bytes(), 40 * kMegabyte);
}

TEST_F(ReusedMemoryTest, SmallOnesAreOfTheOtherAllocator) {
  address_of_freed(ReusedMemory::kLarge - 1);
  memory_.allocate(0);
  EXPECT_EQ(memory_.kept_bytes(), 0u);
  for (const std::size_t bytes : {std::size_t{100}, 3 * kMegabyte}) {
    void* const raw = memory_.raw_allocate(bytes);
    std::memset(raw, 7, bytes);
    memory_.raw_deallocate(raw);
  }
  EXPECT_EQ(memory_.kept_bytes(), 3 * kMegabyte);
}

TEST_F(ReusedMemoryTest, HugePagesBeginAtTheirAddress) {
  for (const std::size_t bytes : {2 * kMegabyte, 3 * kMegabyte + 1, 17 * kMegabyte})
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(address_of_freed(bytes)) % (2 * kMegabyte), 0u);
}

TEST_F(ReusedMemoryTest, WhereThereIsNoneKeptBlocksGoAndTheErrorIsATens) {
  address_of_freed(10 * kMegabyte);
  try {
    memory_.allocate(std::size_t{1} << 50);
    FAIL() << "a petabyte";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("allocate"), std::string::npos) << error.what();
  }
  EXPECT_EQ(memory_.kept_bytes(), 0u);
}

TEST_F(ReusedMemoryTest, ThreadsShareIt) {
  std::vector<std::thread> threads;
  for (unsigned char mark = 1; mark <= 4; ++mark) {
    threads.emplace_back([this, mark] {
      for (std::size_t i = 0; i < 50; ++i) {
        const std::size_t bytes = (2 + (i + mark) % 4) * kMegabyte;
        const c10::DataPtr block = memory_.allocate(bytes);
        std::memset(block.get(), mark, bytes);
        const auto* values = static_cast<const unsigned char*>(block.get());
        EXPECT_EQ(std::count(values, values + bytes, mark), static_cast<std::ptrdiff_t>(bytes));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(memory_.kept_bytes(), 40 * kMegabyte);
}

}  // namespace
}  // namespace easel
