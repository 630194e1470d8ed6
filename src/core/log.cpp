#include <cstdio>
#include <mutex>

#include "easel/core.h"

namespace easel::log {

namespace {

std::mutex mutex;
Level current_level = Level::kNormal;
std::string status_line;

constexpr const char* kClearLine = "\r\x1b[K";

void write(std::string_view text) {
  // Messages are best effort: a closed stderr must not end the program.
  (void)!std::fwrite(text.data(), 1, text.size(), stderr);
}

void message(std::string_view prefix, std::string_view text) {
  const std::lock_guard lock(mutex);
  std::string out;
  if (!status_line.empty()) out += kClearLine;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out += std::string("easel: ") + std::string(prefix) + std::string(text.substr(at, end - at)) + "\n";
    at = end + 1;
  }
  write(out + status_line);
}

}  // namespace

void set_level(Level level) {
  const std::lock_guard lock(mutex);
  current_level = level;
}

Level level() {
  const std::lock_guard lock(mutex);
  return current_level;
}

void error(std::string_view line) { message("error: ", line); }

void warn(std::string_view line) {
  if (level() >= Level::kNormal) message("warning: ", line);
}

void note(std::string_view line) {
  if (level() >= Level::kNormal) message("", line);
}

void verbose(std::string_view line) {
  if (level() >= Level::kVerbose) message("", line);
}

void set_status_line(std::string line) {
  const std::lock_guard lock(mutex);
  if (line.empty() && status_line.empty()) return;
  write(kClearLine + line);
  status_line = std::move(line);
}

}  // namespace easel::log
