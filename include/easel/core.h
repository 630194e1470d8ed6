// core: errors with exit codes, messages to stderr, interruption. Uses no other room and no tensor library.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace easel {

// The value of each kind is the program's exit code.
enum class ErrorKind {
  kInternal = 1,     // a broken invariant of ours
  kUsage = 2,        // wrong usage or request
  kFile = 3,         // a model, input or output file cannot be read or written
  kMemory = 4,       // out of memory
  kPicture = 5,      // a picture failed (NaN after the retry)
  kExpectation = 6,  // verify or expectation not met
};

// A fault of the user's, of a file or of the machine: what is wrong, where, expected and got; `hint` says what to do
// next. One Error can carry several faults of one request, each a line of its own.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string what, std::string hint = "");
  Error(ErrorKind kind, std::vector<std::string> faults, std::string hint = "");

  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }
  const std::vector<std::string>& faults() const { return faults_; }
  const std::string& hint() const { return hint_; }

 private:
  ErrorKind kind_;
  std::vector<std::string> faults_;
  std::string hint_;
};

// Collects every fault of a request, then raises them together.
class Faults {
 public:
  void add(std::string fault) { list_.push_back(std::move(fault)); }
  bool empty() const { return list_.empty(); }
  const std::vector<std::string>& list() const { return list_; }
  // Throws Error(kind) with all faults if there is at least one.
  void raise_if_any(ErrorKind kind, const std::string& hint = "") const;

 private:
  std::vector<std::string> list_;
};

// Thrown at the next step boundary after SIGINT or SIGTERM; exit code 128 + signal.
class Interrupted : public std::exception {
 public:
  explicit Interrupted(int signal) : signal_(signal) {}
  int exit_code() const { return 128 + signal_; }
  const char* what() const noexcept override { return "interrupted"; }

 private:
  int signal_;
};

// Set from a signal handler (async-signal-safe); check_interrupted() throws Interrupted. True: the next signal may end
// the program by itself.
bool request_interrupt(int signal) noexcept;
void check_interrupted();

// While one lives, a first SIGINT is waited with: what is being done comes to its end, and the second one interrupts.
class InterruptPatience {
 public:
  InterruptPatience() noexcept;
  ~InterruptPatience();
  InterruptPatience(const InterruptPatience&) = delete;
};

namespace log {

enum class Level { kQuiet, kNormal, kVerbose };
void set_level(Level level);
Level level();

// One line to stderr: "easel: …". error() always prints; warn() and note() at kNormal and up; verbose() at kVerbose.
// All of them first clear a progress bar that is being drawn on the same line.
void error(std::string_view line);
void warn(std::string_view line);
void note(std::string_view line);
void verbose(std::string_view line);

// The progress bar's current line, redrawn after each message; empty when there is none.
void set_status_line(std::string line);

}  // namespace log

// For messages: "a, b, c"; the shortest text that reads back as the same number ("20", "7.5").
std::string listed(const std::vector<std::string>& words);
std::string plain(double value);

// The `count` words of `known` nearest to `word` (edit distance, prefixes first), for "did you mean".
std::vector<std::string> nearest_names(std::string_view word, const std::vector<std::string>& known,
                                       std::size_t count = 3);

}  // namespace easel
