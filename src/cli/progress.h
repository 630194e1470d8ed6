// How far a run is, on standard error.
#pragma once

#include <cstdint>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

namespace easel::cli {

enum class ProgressStyle { kAuto, kBar, kJson, kNone };

// kBar: one line redrawn on the terminal. kJson: one object a line, `event` being start, step, picture or end. kAuto: a
// bar where standard error is a terminal and messages are wanted, else nothing.
class Progress {
 public:
  // −1 pictures: nobody knows how many will come. Steps and finished pictures may come from different threads.
  Progress(ProgressStyle style, int64_t pictures);
  ~Progress();  // clears the bar; the event "end", however the run ended
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // That many together, the first of which is picture `index`.
  void start_pictures(int64_t index, int64_t count);
  // After network call `done` of `total`.
  void step(int done, int total);
  // The picture is saved as `path`. Clears the bar, so that a result can be printed on the same terminal.
  void finish_picture(int64_t index, const std::string& path, uint64_t seed);

  int64_t finished() const;

 private:
  double seconds_per_step(int done) const;
  void draw_bar(int done, int total);
  void emit(nlohmann::ordered_json event) const;

  ProgressStyle style_;
  int64_t pictures_;
  int64_t index_ = 0, together_ = 1, finished_ = 0;
  mutable std::mutex mutex_;
  double first_step_ = 0;  // when the first network call was done: what came before it is loading
  double last_drawn_ = 0;
};

}  // namespace easel::cli
