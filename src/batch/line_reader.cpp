#include "batch/line_reader.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "easel/core.h"

namespace easel {

namespace {

constexpr std::size_t kBlock = 1 << 16;
constexpr std::size_t kKept = 256;  // of a line that is too long, for messages

}  // namespace

LineReader::LineReader(int fd, std::string name, std::size_t longest)
    : fd_(fd), name_(std::move(name)), longest_(longest) {}

// One more block; false when there is none (now, where it does not wait).
bool LineReader::fill(bool wait) {
  buffer_offset_ += begin_;
  buffer_.erase(0, begin_);
  searched_ -= begin_;
  begin_ = 0;
  while (!at_end_) {
    check_interrupted();
    pollfd readable{fd_, POLLIN, 0};
    const int ready = ::poll(&readable, 1, wait ? -1 : 0);
    if (ready == 0) return false;
    if (ready < 0 && errno == EINTR) continue;
    const std::size_t size = buffer_.size();
    buffer_.resize(size + kBlock);
    const ssize_t count = ::read(fd_, buffer_.data() + size, kBlock);
    const int error = errno;
    buffer_.resize(size + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    if (count > 0) return true;
    if (count == 0) at_end_ = true;
    if (count < 0 && error != EINTR && error != EAGAIN)
      throw Error(ErrorKind::kFile, name_ + ": cannot be read: " + std::generic_category().message(error));
  }
  return false;
}

bool LineReader::find_end() {
  searched_ = std::min(buffer_.find('\n', searched_), buffer_.size());
  return searched_ < buffer_.size();
}

void LineReader::drop_too_long() {
  if (!dropping_) {
    kept_ = buffer_.substr(begin_, kKept);
    offset_ = buffer_offset_ + begin_;
  }
  dropping_ = true;
  begin_ = searched_;
}

void LineReader::take(std::size_t length, std::string& line) {
  too_long_ = dropping_ || length > longest_;
  if (too_long_ && !dropping_) drop_too_long();
  if (!dropping_) {
    line.assign(buffer_, begin_, length);
    offset_ = buffer_offset_ + begin_;
  } else {
    line = std::move(kept_);
  }
  dropping_ = false;
  if (line.ends_with('\r')) line.pop_back();
  begin_ = searched_ + (has_end_ ? 1 : 0);
  searched_ = begin_;
  end_offset_ = buffer_offset_ + begin_;
  ++number_;
}

bool LineReader::next(std::string& line) {
  while (!find_end()) {
    if (searched_ - begin_ > longest_) drop_too_long();
    if (fill(/*wait=*/true)) continue;
    if (searched_ == begin_ && !dropping_) return false;
    has_end_ = false;
    take(searched_ - begin_, line);
    return true;
  }
  has_end_ = true;
  take(searched_ - begin_, line);
  return true;
}

bool LineReader::is_ready() {
  while (!find_end()) {
    if (searched_ - begin_ > longest_) drop_too_long();
    if (!fill(/*wait=*/false)) return at_end_;
  }
  return true;
}

}  // namespace easel
