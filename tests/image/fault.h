// What an action said when it failed, and the signals it left behind.
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <functional>

#include "easel/core.h"

namespace easel::testing {

struct Fault {
  std::string what = "no error", hint;
};

inline Fault fault_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFile);
    return {error.what(), error.hint()};
  }
  return {};
}

inline bool is_pending(int signal) {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, signal) == 1;
}

inline bool is_blocked(int signal) {
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  return sigismember(&blocked, signal) == 1;
}

}  // namespace easel::testing
