// A folder for a test, faults as text, job files from strings.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "easel/jobs.h"

namespace easel::testing {

namespace fs = std::filesystem;

inline std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}
inline std::string joined(const Faults& faults) { return joined(faults.list()); }

inline void expect_words(const std::string& text, const std::string& words) {
  EXPECT_NE(text.find(words), std::string::npos) << words << "\nin: " << text;
}

// What the Error says that `act` throws.
template <typename Act>
std::string error_of(ErrorKind kind, const Act& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return std::string(error.what()) + "\n" + error.hint();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

// An empty folder, removed at the end of the test.
class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "easel-jobs-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, std::string_view text) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  std::string read(const std::string& name) const {
    std::ifstream in(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  fs::path folder_;
};

inline std::vector<JobLine> all_lines(JobReader& reader) {
  std::vector<JobLine> lines;
  while (auto line = reader.next()) lines.push_back(std::move(*line));
  return lines;
}

// Both ends of a pipe.
struct Pipe {
  Pipe() { EXPECT_EQ(::pipe(ends), 0); }
  ~Pipe() {
    close_writing();
    ::close(ends[0]);
  }
  void write(std::string_view text) {
    EXPECT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void close_writing() {
    if (ends[1] >= 0) ::close(ends[1]);
    ends[1] = -1;
  }
  int ends[2];
};

// The resident memory of this process in KiB.
inline int64_t resident_kib() {
  std::ifstream in("/proc/self/statm");
  int64_t total = 0, resident = 0;
  in >> total >> resident;
  return resident * (::sysconf(_SC_PAGESIZE) / 1024);
}

}  // namespace easel::testing
