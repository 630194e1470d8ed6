// Lines of a file or a pipe, in memory that does not grow with it.
#pragma once

#include <cstdint>
#include <string>

namespace easel {

class LineReader {
 public:
  // `name` stands in messages; the descriptor stays open.
  LineReader(int fd, std::string name, std::size_t longest);

  // The next line without its end (LF, or CR LF); of a longer one than `longest` the first bytes, and is_too_long().
  // False at the end. Throws Error(kFile) when reading fails, Interrupted when a signal ends the wait.
  bool next(std::string& line);
  // Whether next() would answer at once.
  bool is_ready();

  int64_t number() const { return number_; }  // of the line next() gave, from 1
  bool is_too_long() const { return too_long_; }
  bool has_end() const { return has_end_; }            // it ended in LF, not with the file
  uint64_t offset() const { return offset_; }          // of its first byte
  uint64_t end_offset() const { return end_offset_; }  // past its LF

 private:
  bool fill(bool wait);
  bool find_end();
  void drop_too_long();
  void take(std::size_t length, std::string& line);

  int fd_;
  std::string name_;
  std::size_t longest_;
  std::string buffer_;
  std::size_t begin_ = 0, searched_ = 0;  // the line's first byte; no LF before here
  uint64_t buffer_offset_ = 0;            // of the buffer in the file
  bool at_end_ = false, dropping_ = false;
  std::string kept_;  // of a line that is being dropped
  int64_t number_ = 0;
  bool too_long_ = false, has_end_ = true;
  uint64_t offset_ = 0, end_offset_ = 0;
};

}  // namespace easel
