// Runs the program: arguments, folder, environment, limits → exit code and both outputs.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>
#include <string>
#include <vector>

namespace easel::testing {

using Words = std::vector<std::string>;

struct Surroundings {
  std::filesystem::path folder = {};  // the working folder
  std::string input = {};             // standard input; empty: at its end from the start
  bool keep_input_open = false;       // a pipe in which only comes what write() writes, instead
  Words environment = {};             // "NAME=value"
  std::string output_file = {};       // standard output goes there, instead of to Result::out
  bool close_output = false;          // no standard output at all (>&-)
  bool break_output = false;          // standard output is a pipe whose reader is gone
  bool error_terminal = false;        // standard error is a terminal of 60 columns
  rlim_t file_size = RLIM_INFINITY;
  rlim_t address_space = RLIM_INFINITY;
};

struct Result {
  int code = -1;   // exit code
  int signal = 0;  // that ended the program, else 0
  std::string out, err;
};

Words lines_of(const std::string& text);

// A started program; ended, if it still runs, at the end of the scope. It is the executable itself where its
// surroundings are special (limits, closed outputs, a terminal, variables that libraries read as they start); otherwise
// a fork of this process that calls what main() calls, because libtorch's start takes longer than most tests.
class Program {
 public:
  Program(const Words& arguments, const Surroundings& around);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Until the text has come on either output; fails the test after a minute or at the program's end.
  void wait_for(const std::string& text);
  void send(int signal) const;
  // To standard input, where it is kept open.
  void write(const std::string& text) const;
  void close_input();
  Result finish();

 private:
  bool read_some();  // false when both outputs are at their ends

  int process_ = -1;
  int input_ = -1, out_ = -1, err_ = -1;
  Result result_;
};

// A folder of its own for each test, in which programs run.
class CliTest : public ::testing::Test {
 protected:
  CliTest();
  ~CliTest() override;

  Result run(const Words& arguments, Surroundings around = {}) const;
  // With options that make pictures small and quick.
  Result draw(Words arguments, Surroundings around = {}) const;
  Surroundings here(Surroundings around = {}) const;

  std::vector<std::string> files() const;  // in the folder, hidden ones too, sorted
  std::string bytes(const std::string& name) const;
  void make(const std::string& name, const std::string& content) const;

  std::filesystem::path folder_;
};

// The words all appear in the text.
void expect_words(const std::string& text, const Words& words);

inline const Words kSmall = {"--steps", "1", "-W", "64", "-H", "64", "--dtype", "f32", "--device", "cpu"};

}  // namespace easel::testing
