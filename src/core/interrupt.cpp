#include <atomic>
#include <csignal>

#include "easel/core.h"

namespace easel {

namespace {

std::atomic<int> pending_signal{0}, signals{0}, patient{0};
static_assert(std::atomic<int>::is_always_lock_free, "the signal handler writes them");

// SIGTERM comes from queues that kill soon after: it is never waited with.
bool is_waited_with() { return patient.load() > 0 && pending_signal.load() == SIGINT && signals.load() < 2; }

}  // namespace

bool request_interrupt(int signal) noexcept {
  pending_signal.store(signal);
  signals.fetch_add(1);
  return !is_waited_with();
}

void check_interrupted() {
  const int signal = pending_signal.load();
  if (signal != 0 && !is_waited_with()) throw Interrupted(signal);
}

InterruptPatience::InterruptPatience() noexcept { patient.fetch_add(1); }
InterruptPatience::~InterruptPatience() { patient.fetch_sub(1); }

}  // namespace easel
