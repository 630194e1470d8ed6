#include "cli/finisher.h"

#include <cmath>

#include "cli/results.h"

namespace easel::cli {

namespace {

const char* word_of(Finished::Status status) {
  switch (status) {
    case Finished::Status::kDone:
      return "done";
    case Finished::Status::kFailed:
      return "failed";
    case Finished::Status::kCancelled:
      return "cancelled";
    case Finished::Status::kSkipped:
      return "skipped";
  }
  return "";
}

nlohmann::ordered_json seconds_of(const Picture& picture, double save) {
  const Timings& t = picture.timings;
  return {{"load", t.load}, {"encode", t.encode}, {"sample", t.sample}, {"decode", t.decode}, {"save", save}};
}

std::string line_of(const nlohmann::ordered_json& object) {
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

Finisher::Finisher(const GenerateOptions& options, Outputs& outputs, ManifestWriter* manifest, Progress& progress,
                   int64_t most_waiting)
    : options_(options),
      outputs_(outputs),
      manifest_(manifest),
      progress_(progress),
      most_waiting_(static_cast<std::size_t>(most_waiting)),
      thread_([this] { work(); }) {}

Finisher::~Finisher() { join(); }

void Finisher::join() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Finisher::take(Finished finished) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return waiting_.size() < most_waiting_ || failure_; });
  if (failure_) std::rethrow_exception(failure_);
  waiting_.push_back(std::move(finished));
  changed_.notify_all();
}

void Finisher::close() {
  join();
  if (failure_) std::rethrow_exception(failure_);
  if (options_.grid) draw_grid();
}

void Finisher::work() {
  while (true) {
    Finished next;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !waiting_.empty() || closed_; });
      if (waiting_.empty()) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    changed_.notify_all();
    try {
      finish(next);
    } catch (...) {  // nothing after it could be written either
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
      waiting_.clear();
      closed_ = true;
      changed_.notify_all();
      return;
    }
  }
}

void Finisher::finish(Finished& f) {
  if (f.status == Finished::Status::kDone) return write(f);
  if (f.status == Finished::Status::kSkipped || !options_.messages.json) {
    tell(f.turn, "");
  } else {
    nlohmann::ordered_json result = {{"index", f.job.index}, {"status", word_of(f.status)}};
    if (!f.job.id.is_null()) result["id"] = f.job.id;
    if (!f.error.empty()) result["error"] = f.error;
    result["request"] = to_json(f.job.request);
    tell(f.turn, line_of(result));
  }
  if (manifest_ != nullptr && f.status == Finished::Status::kFailed) record(f, {}, {}, 0);
}

void Finisher::write(Finished& f) {
  const double start = now_seconds();
  if (options_.grid) {
    const std::string swept = options_.sweep.label(f.job.sweep);
    grid_[f.turn] = {f.picture->image, swept.empty() ? "seed " + std::to_string(*f.request.seed) : swept};
  }
  std::string path;
  if (!options_.skip_save) {
    const std::string png = encode_png(f.picture->image, f.texts);
    if (options_.output.to_standard_output) {
      print_text(png);
      progress_.finish_picture(f.job.index, "-", *f.request.seed);
      return;
    }
    path = outputs_.write(f.facts, png, f.replace).string();
    if (manifest_ != nullptr) record(f, path, sha256_of(png), now_seconds() - start);
  }
  progress_.finish_picture(f.job.index, path, *f.request.seed);
  if (!options_.messages.json) return tell(f.turn, path.empty() ? "" : path + "\n");
  nlohmann::ordered_json result = {{"index", f.job.index}, {"status", word_of(f.status)}};
  if (!f.job.id.is_null()) result["id"] = f.job.id;
  if (!path.empty()) result["path"] = path;
  result["seed"] = *f.request.seed;
  result["request"] = to_json(f.request);
  result["timings"] = seconds_of(*f.picture, now_seconds() - start);
  tell(f.turn, line_of(result));
}

void Finisher::record(const Finished& f, const std::filesystem::path& path, const std::string& hash, double seconds) {
  ManifestRecord record;
  record.index = f.job.index;
  record.job = f.job.job;
  record.id = f.job.id;
  record.request = to_json(f.job.request);
  record.error = f.error;
  record.path = path;
  record.sha256 = hash;
  if (f.picture) record.seconds = seconds_of(*f.picture, seconds);
  manifest_->add(record);
}

// Results come in the order of the jobs, unless they need not.
void Finisher::tell(int64_t turn, std::string text) {
  if (options_.unordered) {
    if (!text.empty()) print_text(text);
    return;
  }
  results_[turn] = std::move(text);
  for (auto first = results_.begin(); first != results_.end() && first->first == next_turn_;
       first = results_.erase(first), ++next_turn_) {
    if (!first->second.empty()) print_text(first->second);
  }
}

// A row for each value of the slower sweeps; without sweeps as square as it can be.
void Finisher::draw_grid() {
  if (grid_.empty()) return;
  const auto& axes = options_.sweep.axes();
  const int square = static_cast<int>(std::ceil(std::sqrt(static_cast<double>(grid_.size()))));
  const int columns = axes.empty() ? square : static_cast<int>(axes.back().values.size());
  std::vector<LabelledImage> cells;
  for (auto& [turn, cell] : grid_) cells.push_back(std::move(cell));
  write_file_atomically(*options_.grid, encode_png(contact_sheet(cells, columns), {}), options_.output.files.overwrite);
  log::note("grid: " + *options_.grid);
}

}  // namespace easel::cli
