#include <atomic>

#include "easel/core.h"

namespace easel {

namespace {

std::atomic<int> pending_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "the signal handler writes it");

}  // namespace

void request_interrupt(int signal) noexcept { pending_signal.store(signal, std::memory_order_relaxed); }

void check_interrupted() {
  if (const int signal = pending_signal.load(std::memory_order_relaxed)) throw Interrupted(signal);
}

}  // namespace easel
