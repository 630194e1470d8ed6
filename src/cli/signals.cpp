#include "cli/signals.h"

#include <array>
#include <csignal>

#include "easel/core.h"

namespace easel::cli {

namespace {

volatile std::sig_atomic_t waits = 0;

extern "C" void on_interrupt(int signal) {
  const bool waited = waits != 0;
  waits = !request_interrupt(signal);
  if (waits) return;
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  // A second Ctrl-C does not wait for the end of a network call: files appear whole or not at all.
  if (waited && signal == SIGINT) ::raise(SIGINT);
}

// oneDNN's float32 matrix products lay the stack pointer into a workspace on the heap while they run
// (jit_avx512_common_gemm_f32): a signal's frame, put below it, would overwrite what malloc keeps there. It gets memory
// of its own. The system gives a process's signals to its first thread as long as that takes them.
void give_handlers_a_stack() {
  alignas(64) static std::array<char, 64 * 1024> stack;  // the frame holds all vector registers, AMX's tiles too: 12 KB
  stack_t on_signals = {};
  on_signals.ss_sp = stack.data();
  on_signals.ss_size = stack.size();
  sigaltstack(&on_signals, nullptr);
}

}  // namespace

void install_signal_handlers() {
  give_handlers_a_stack();
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_ONSTACK;  // and not SA_RESTART: a read of standard input must end too
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace easel::cli
