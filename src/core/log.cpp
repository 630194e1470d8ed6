#include <algorithm>
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

// Names out of a file (tensors, words of a prompt) must not drive the terminal: control characters are spelled out.
std::string shown(std::string_view line) {
  std::string text;
  for (const char c : line) {
    const bool is_control = (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F;
    char spelled[5];
    if (is_control) std::snprintf(spelled, sizeof spelled, "\\x%02x", static_cast<unsigned char>(c));
    text += is_control ? std::string(spelled) : std::string(1, c);
  }
  return text;
}

void message(std::string_view prefix, std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);  // what() of libtorch's exceptions
  const std::lock_guard lock(mutex);
  std::string out;
  if (!status_line.empty()) out += kClearLine;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out += std::string("easel: ") + std::string(prefix) + shown(text.substr(at, end - at)) + "\n";
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
