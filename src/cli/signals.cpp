#include "cli/signals.h"

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

}  // namespace

void install_signal_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;  // without SA_RESTART: a read of standard input must end too
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace easel::cli
