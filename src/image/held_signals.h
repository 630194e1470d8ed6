// SIGXFSZ (a write beyond RLIMIT_FSIZE) and SIGPIPE end a program that does not expect them.
#pragma once

#include <cerrno>
#include <csignal>
#include <ctime>

namespace easel {

// Holds both back from this thread while it lives, so that write() fails with EFBIG or EPIPE instead; what was raised
// meanwhile is dropped at the end. The program's own handlers and masks stay as they are.
class HeldWriteSignals {
 public:
  HeldWriteSignals() {
    sigset_t pending, held;
    ::sigpending(&pending);
    ::sigemptyset(&held);
    ::sigemptyset(&to_drop_);
    for (const int signal : {SIGXFSZ, SIGPIPE}) {
      ::sigaddset(&held, signal);
      if (!::sigismember(&pending, signal)) ::sigaddset(&to_drop_, signal);
    }
    ::pthread_sigmask(SIG_BLOCK, &held, &before_);
  }
  ~HeldWriteSignals() {
    const timespec no_wait{};
    while (::sigtimedwait(&to_drop_, nullptr, &no_wait) > 0 || errno == EINTR) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  HeldWriteSignals(const HeldWriteSignals&) = delete;
  HeldWriteSignals& operator=(const HeldWriteSignals&) = delete;

 private:
  sigset_t before_, to_drop_;
};

}  // namespace easel
