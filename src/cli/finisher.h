// Pictures on their last way, beside the sampling of the next ones: PNG, file, manifest, result line.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <thread>

#include "cli/generate_options.h"
#include "easel/junit.h"
#include "easel/manifest.h"

namespace easel::cli {

// How many pictures a contact sheet may hold.
inline constexpr int64_t kLargestGrid = 2500;

// What became of one picture of the run, or of a line that gave none.
struct Finished {
  enum class Status { kDone, kFailed, kCancelled, kSkipped, kBadLine } status = Status::kDone;
  int64_t turn = 0;  // in the order of the jobs, without gaps
  JobPicture job = {};
  Request request = {};  // resolved
  NameFacts facts = {};
  std::vector<PngText> texts = {};
  std::optional<Picture> picture = {};
  bool replace = false;             // its file is there and damaged
  std::filesystem::path done = {};  // of kSkipped
  std::string error = {};
};

// The faults of a picture of a batch, on standard error.
void tell_failed(int64_t index, const Error& error);

class Finisher {
 public:
  // −1 pictures: nobody knows how many.
  Finisher(const GenerateOptions& options, Outputs& outputs, Progress& progress, int64_t pictures);
  ~Finisher();  // writes what waits
  Finisher(const Finisher&) = delete;

  // Before the first picture that is done; failures may come earlier. `manifest` may be null. At most `most_waiting`
  // wait to be written.
  void begin(ManifestWriter* manifest, int64_t most_waiting);
  // Waits while too many are waiting. Throws what ended the writing (Error(kFile): disk full, output closed).
  void take(Finished finished);
  // Waits for all; throws as take(). Draws the grid.
  void close();

  // Pictures that were drawn and could not be written, their names being taken. After close().
  int64_t failed() const { return failed_; }
  // Pictures that are not the expected one. After close().
  int64_t unexpected() const { return unexpected_; }

 private:
  void work();
  void finish(Finished& finished);
  void write(Finished& finished);
  std::string saved(const Finished& finished);
  void fail(Finished& finished, const Error& error);
  void tell_end(const Finished& finished);
  void compare(const Finished& finished, const std::string& path, double seconds);
  void record(ManifestRecord record);
  void tell(int64_t turn, std::string text);
  void print(std::string_view text);
  void add_to_grid(const Finished& finished);
  Image shrunk(Image image) const;
  void draw_grid();
  void join();

  const GenerateOptions& options_;
  Outputs& outputs_;
  Progress& progress_;
  const int64_t pictures_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Finished> waiting_;
  std::size_t most_waiting_ = 1;
  ManifestWriter* manifest_ = nullptr;
  bool closed_ = false;
  std::exception_ptr failure_;

  // Of the working thread alone.
  std::map<int64_t, std::string> results_;  // of turns whose turn has not come
  int64_t next_turn_ = 0;
  std::vector<ManifestRecord> unrecorded_;  // failures before the manifest
  std::exception_ptr muted_by_;             // an interruption while nobody read the results
  std::map<int64_t, LabelledImage> grid_;
  std::atomic<int64_t> failed_ = 0, unexpected_ = 0;
  std::optional<Image> expected_;
  std::optional<JunitReport> junit_;
  std::thread thread_;
};

}  // namespace easel::cli
