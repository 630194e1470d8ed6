#include "nn/cpu/amx.h"

#include <cstdlib>
#include <memory>
#include <new>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace easel::cpu::amx {

#if defined(__x86_64__) && defined(__linux__)
namespace {

// The kernel saves tiles only for processes that asked (Linux, Documentation/arch/x86/xstate.rst).
bool ask_for_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

struct alignas(64) Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace

bool has_tiles() {
  static const bool tiles = has_amx_bf16() && has_avx512_bf16() && ask_for_tiles();
  return tiles;
}

Tiles::Tiles() {
  static const Configuration full;
  asm volatile("ldtilecfg %0" ::"m"(full) : "memory");
  constexpr unsigned kFlushToZero = 0x8000, kAreZero = 0x0040;
  flags_ = _mm_getcsr();
  _mm_setcsr(flags_ | kFlushToZero | kAreZero);
}
Tiles::~Tiles() {
  asm volatile("tilerelease");
  _mm_setcsr(flags_);
}
#else
bool has_tiles() { return false; }
Tiles::Tiles() = default;
Tiles::~Tiles() = default;
#endif

namespace {

constexpr std::size_t kPage = std::size_t{2} << 20;

std::byte* pages_of(std::size_t bytes) {
  auto* pages = static_cast<std::byte*>(std::aligned_alloc(kPage, bytes));
  if (pages == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  ::madvise(pages, bytes, MADV_HUGEPAGE);  // best effort
#endif
  return pages;
}

struct Free {
  void operator()(std::byte* pages) const { std::free(pages); }
};

}  // namespace

std::byte* room_for(std::size_t bytes) {
  thread_local std::unique_ptr<std::byte[], Free> room;
  thread_local std::size_t size = 0;
  if (bytes > size) {
    room.reset();
    size = 0;
    const std::size_t whole = (bytes + kPage - 1) / kPage * kPage;
    room.reset(pages_of(whole));
    size = whole;
  }
  return room.get();
}

}  // namespace easel::cpu::amx
