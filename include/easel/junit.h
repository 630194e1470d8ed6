// batch: a run as a JUnit report, which CI systems show: a test case a picture.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace easel {

struct JunitCase {
  std::string name;  // of the picture: its file
  double seconds = 0;
  std::string failure = {};  // the expectation that it does not meet
  std::string error = {};    // why there is no picture
};

// The report appears when it is written, whole or not at all. What XML cannot hold of texts is dropped (control
// characters) or shown as U+FFFD (bytes that are no UTF-8).
class JunitReport {
 public:
  // `suite`: "easel verify". Removes an older report: a run that dies must not leave it for its own. Throws
  // Error(kFile) where no file can be written.
  JunitReport(std::filesystem::path file, std::string suite);

  void add(JunitCase picture) { cases_.push_back(std::move(picture)); }
  std::string xml() const;
  // Throws Error(kFile).
  void write() const;

 private:
  std::filesystem::path file_;
  std::string suite_;
  std::vector<JunitCase> cases_;
};

}  // namespace easel
