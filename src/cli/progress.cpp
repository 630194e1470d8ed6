#include "cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "easel/core.h"
#include "easel/runtime.h"

namespace easel::cli {

namespace {

constexpr double kRedrawSeconds = 0.05;
constexpr std::size_t kWidestBar = 40;

ProgressStyle settled(ProgressStyle style) {
  if (style != ProgressStyle::kAuto) return style;
  const char* terminal = std::getenv("TERM");
  const bool draws = ::isatty(STDERR_FILENO) && (terminal == nullptr || std::strcmp(terminal, "dumb") != 0);
  return draws && log::level() != log::Level::kQuiet ? ProgressStyle::kBar : ProgressStyle::kNone;
}

int terminal_columns() {
  winsize size = {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

template <typename... Values>
std::string formatted(const char* format, Values... values) {
  char text[64];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

std::string rate_text(double seconds_per_step) {
  return seconds_per_step <= 1 ? formatted("%.2f it/s", 1 / seconds_per_step)
                               : formatted("%.2f s/it", seconds_per_step);
}

std::string clock_text(double seconds) {
  const long whole = std::lround(seconds);
  if (whole >= 3600) return formatted("%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  return formatted("%ld:%02ld", whole / 60, whole % 60);
}

// Of this pack and all that follow it; of this one alone where nobody knows how many follow.
double remaining_steps(int64_t index, int64_t together, int64_t pictures, int done, int total) {
  const int64_t packs = pictures < 0 ? 1 : (std::max(pictures - index, together) + together - 1) / together;
  return static_cast<double>(packs) * total - done;
}

// "picture 2/4", "pictures 5-8/256", "picture 7".
std::string which_pictures(int64_t index, int64_t together, int64_t pictures) {
  const std::string first = std::to_string(index + 1);
  const std::string name =
      together > 1 ? "pictures " + first + "-" + std::to_string(index + together) : "picture " + first;
  return pictures < 0 ? name : name + "/" + std::to_string(pictures);
}

// "[####----]  7/20  2.31 it/s  ETA 0:05" of at most `columns` columns, after "picture 2/4  " when there are several.
std::string bar_line(int64_t index, int64_t together, int64_t pictures, int done, int total, double seconds_per_step,
                     int columns) {
  std::string head;
  if (pictures != 1) head = which_pictures(index, together, pictures) + "  ";
  std::string tail = "  " + std::to_string(done) + "/" + std::to_string(total);
  if (seconds_per_step > 0)
    tail += "  " + rate_text(seconds_per_step) + "  ETA " +
            clock_text(remaining_steps(index, together, pictures, done, total) * seconds_per_step);
  // One column stays free: a full line would wrap on some terminals and could not be cleared.
  const std::size_t room = columns > 1 ? static_cast<std::size_t>(columns - 1) : 0;
  const std::size_t taken = head.size() + tail.size() + 2;
  const std::size_t width = room > taken ? std::min(room - taken, kWidestBar) : 0;
  const std::size_t filled = total > 0 ? width * static_cast<std::size_t>(done) / static_cast<std::size_t>(total) : 0;
  std::string line = head;
  if (width > 0) line.append(1, '[').append(filled, '#').append(width - filled, '-').append(1, ']');
  return (line + tail).substr(0, room);
}

}  // namespace

Progress::Progress(ProgressStyle style, int64_t pictures) : style_(settled(style)), pictures_(pictures) {
  emit({{"event", "start"}, {"pictures", pictures}});
}

Progress::~Progress() {
  log::set_status_line("");
  emit({{"event", "end"}, {"finished", finished_}, {"pictures", pictures_}});
}

void Progress::start_pictures(int64_t index, int64_t count) {
  const std::lock_guard lock(mutex_);
  index_ = index;
  together_ = count;
  first_step_ = 0;
  if (style_ == ProgressStyle::kBar) log::set_status_line(which_pictures(index, count, -1) + ": loading");
}

int64_t Progress::finished() const {
  const std::lock_guard lock(mutex_);
  return finished_;
}

double Progress::seconds_per_step(int done) const { return done > 1 ? (now_seconds() - first_step_) / (done - 1) : 0; }

void Progress::step(int done, int total) {
  const std::lock_guard lock(mutex_);
  if (done == 1) first_step_ = now_seconds();
  if (style_ == ProgressStyle::kBar) draw_bar(done, total);
  if (style_ != ProgressStyle::kJson) return;
  nlohmann::ordered_json event = {{"event", "step"}, {"index", index_}, {"step", done}, {"steps", total}};
  if (together_ > 1) event["pictures"] = together_;
  if (const double seconds = seconds_per_step(done); seconds > 0) {
    event["seconds_per_step"] = seconds;
    event["eta"] = remaining_steps(index_, together_, pictures_, done, total) * seconds;
  }
  emit(std::move(event));
}

void Progress::draw_bar(int done, int total) {
  const double now = now_seconds();
  if (done < total && now - last_drawn_ < kRedrawSeconds) return;
  last_drawn_ = now;
  log::set_status_line(bar_line(index_, together_, pictures_, done, total, seconds_per_step(done), terminal_columns()));
}

void Progress::finish_picture(int64_t index, const std::string& path, uint64_t seed) {
  const std::lock_guard lock(mutex_);
  ++finished_;
  log::set_status_line("");
  emit({{"event", "picture"}, {"index", index}, {"path", path}, {"seed", seed}});
}

// Best effort, as all of standard error is: a closed one must not end the run.
void Progress::emit(nlohmann::ordered_json event) const {
  if (style_ != ProgressStyle::kJson) return;
  const std::string line = event.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  (void)!std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace easel::cli
