#include "cli/signals.h"

#include <csignal>

#include "easel/core.h"

namespace easel::cli {

namespace {

extern "C" void on_interrupt(int signal) {
  if (!request_interrupt(signal)) return;
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
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
