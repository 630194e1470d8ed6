// Pictures on their last way, beside the sampling of the next ones: PNG, file, manifest, result line.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <thread>

#include "cli/generate_options.h"
#include "easel/manifest.h"

namespace easel::cli {

// What became of one picture of the run.
struct Finished {
  enum class Status { kDone, kFailed, kCancelled, kSkipped } status = Status::kDone;
  int64_t turn = 0;  // in the order of the jobs, without gaps
  JobPicture job = {};
  Request request = {};  // resolved
  NameFacts facts = {};
  std::vector<PngText> texts = {};
  std::optional<Picture> picture = {};
  bool replace = false;  // its file is there and damaged
  std::string error = {};
};

class Finisher {
 public:
  // `manifest` may be null. At most `most_waiting` pictures wait to be written.
  Finisher(const GenerateOptions& options, Outputs& outputs, ManifestWriter* manifest, Progress& progress,
           int64_t most_waiting);
  ~Finisher();  // writes what waits
  Finisher(const Finisher&) = delete;

  // Waits while too many are waiting. Throws what writing threw (Error(kFile): disk full, output closed).
  void take(Finished finished);
  // Waits for all; throws as take(). Draws the grid.
  void close();

 private:
  void work();
  void finish(Finished& finished);
  void write(Finished& finished);
  void record(const Finished& finished, const std::filesystem::path& path, const std::string& hash, double seconds);
  void tell(int64_t turn, std::string text);
  void draw_grid();
  void join();

  const GenerateOptions& options_;
  Outputs& outputs_;
  ManifestWriter* manifest_;
  Progress& progress_;
  const std::size_t most_waiting_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Finished> waiting_;
  bool closed_ = false;
  std::exception_ptr failure_;

  // Of the working thread alone.
  std::map<int64_t, std::string> results_;  // of turns whose turn has not come
  int64_t next_turn_ = 0;
  std::map<int64_t, LabelledImage> grid_;
  std::thread thread_;
};

}  // namespace easel::cli
