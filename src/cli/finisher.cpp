#include "cli/finisher.h"

#include <poll.h>
#include <unistd.h>

#include <climits>
#include <cmath>
#include <csignal>

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
    case Finished::Status::kBadLine:
      return "bad line";
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

nlohmann::ordered_json result_of(const Finished& f, bool of_file) {
  nlohmann::ordered_json result;
  if (f.status != Finished::Status::kBadLine) result["index"] = f.job.index;
  result["status"] = word_of(f.status);
  if (of_file) result["line"] = f.job.line;
  if (!f.job.id.is_null()) result["id"] = f.job.id;
  if (!f.error.empty()) result["error"] = f.error;
  return result;
}

ManifestRecord record_of(const Finished& f) {
  ManifestRecord record;
  record.index = f.job.index;
  record.job = f.job.job;
  record.id = f.job.id;
  record.request = to_json(f.job.request);
  record.error = f.error;
  return record;
}

// What is signalled to the process interrupts the main thread's waiting, not a picture that is being written.
class NoSignalsHere {
 public:
  NoSignalsHere() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~NoSignalsHere() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignalsHere(const NoSignalsHere&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

void tell_failed(int64_t index, const Error& error) {
  const std::string which = "picture " + std::to_string(index) + ": ";
  for (const std::string& fault : error.faults()) log::error(which + fault);
  if (!error.hint().empty()) log::note(error.hint());
}

Finisher::Finisher(const GenerateOptions& options, Outputs& outputs, Progress& progress, int64_t pictures)
    : options_(options), outputs_(outputs), progress_(progress), pictures_(pictures) {
  if (options.expect) expected_ = read_png(*options.expect);
  if (options.junit) junit_.emplace(*options.junit, "easel");
  const NoSignalsHere inherited;
  thread_ = std::thread([this] { work(); });
}

Finisher::~Finisher() { join(); }

void Finisher::begin(ManifestWriter* manifest, int64_t most_waiting) {
  const std::lock_guard lock(mutex_);
  manifest_ = manifest;
  most_waiting_ = static_cast<std::size_t>(most_waiting);
}

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
  if (muted_by_) std::rethrow_exception(muted_by_);
  if (options_.grid) draw_grid();
  if (junit_) junit_->write();
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

// ---- one picture --------------------------------------------------------------------------------------------------

void Finisher::finish(Finished& f) {
  if (options_.grid) add_to_grid(f);
  if (f.status == Finished::Status::kDone) return write(f);
  if (f.status == Finished::Status::kFailed) record(record_of(f));
  tell_end(f);
}

// Of what was not drawn.
void Finisher::tell_end(const Finished& f) {
  if (junit_ && !f.error.empty())
    junit_->add({.name = "picture " + std::to_string(f.job.index), .failure = {}, .error = f.error});
  if (f.status == Finished::Status::kSkipped || !options_.messages.json) return tell(f.turn, "");
  nlohmann::ordered_json result = result_of(f, options_.from_file.has_value());
  if (f.status != Finished::Status::kBadLine) result["request"] = to_json(f.job.request);
  tell(f.turn, line_of(result));
}

void Finisher::write(Finished& f) {
  const double start = now_seconds();
  std::string path;
  try {
    path = options_.skip_save ? "" : saved(f);
  } catch (const Error& error) {  // its name is taken
    if (error.kind() != ErrorKind::kUsage || !options_.is_batch()) throw;
    return fail(f, error);
  }
  progress_.finish_picture(f.job.index, path, *f.request.seed);
  compare(f, path, now_seconds() - start);
  if (options_.output.to_standard_output) return;
  if (!options_.messages.json) return tell(f.turn, path.empty() ? "" : path + "\n");
  nlohmann::ordered_json result = result_of(f, options_.from_file.has_value());
  if (!path.empty()) result["path"] = path;
  result["seed"] = *f.request.seed;
  result["request"] = to_json(f.request);
  result["timings"] = seconds_of(*f.picture, now_seconds() - start);
  tell(f.turn, line_of(result));
}

void Finisher::compare(const Finished& f, const std::string& path, double seconds) {
  const std::string name = path.empty() ? "picture " + std::to_string(f.job.index) : path;
  const std::string why = expected_ ? mismatch(f.picture->image, *expected_, options_.tolerance) : "";
  if (!why.empty()) {
    ++unexpected_;
    log::error(name + " is not " + *options_.expect + ": " + why);
  }
  const Timings& t = f.picture->timings;
  if (junit_) junit_->add({.name = name, .seconds = t.load + t.encode + t.sample + t.decode + seconds, .failure = why});
}

// Its path.
std::string Finisher::saved(const Finished& f) {
  const double start = now_seconds();
  const std::string png = encode_png(f.picture->image, f.texts);
  if (options_.output.to_standard_output) {
    print(png);
    return "-";
  }
  const std::filesystem::path path = outputs_.write(f.facts, png, f.replace);
  if (options_.manifest) {
    ManifestRecord done = record_of(f);
    done.path = path;
    done.sha256 = sha256_of(png);
    done.seconds = seconds_of(*f.picture, now_seconds() - start);
    record(std::move(done));
  }
  return path.string();
}

void Finisher::fail(Finished& f, const Error& error) {
  ++failed_;
  tell_failed(f.job.index, error);
  f.status = Finished::Status::kFailed;
  f.error = error.what();
  record(record_of(f));
  tell_end(f);
}

void Finisher::record(ManifestRecord record) {
  if (!options_.manifest) return;
  ManifestWriter* manifest = nullptr;
  {
    const std::lock_guard lock(mutex_);
    manifest = manifest_;
  }
  unrecorded_.push_back(std::move(record));
  if (manifest == nullptr) return;
  for (const ManifestRecord& one : unrecorded_) manifest->add(one);
  unrecorded_.clear();
}

// ---- results ------------------------------------------------------------------------------------------------------

// Results come in the order of the jobs, unless they need not.
void Finisher::tell(int64_t turn, std::string text) {
  if (options_.unordered) return print(text);
  results_[turn] = std::move(text);
  for (auto first = results_.begin(); first != results_.end() && first->first == next_turn_;
       first = results_.erase(first), ++next_turn_)
    print(first->second);
}

// In pieces that a pipe takes whole, so that an interrupted run does not wait for a reader that has stopped reading:
// pictures are still written then.
void Finisher::print(std::string_view text) {
  constexpr int kPatienceMilliseconds = 200;
  try {
    while (!muted_by_ && !text.empty()) {
      pollfd out{STDOUT_FILENO, POLLOUT, 0};
      while (::poll(&out, 1, kPatienceMilliseconds) == 0) check_interrupted();
      print_text(text.substr(0, PIPE_BUF));
      text.remove_prefix(std::min<std::size_t>(text.size(), PIPE_BUF));
    }
  } catch (const Interrupted&) {
    muted_by_ = std::current_exception();
  }
}

// ---- the contact sheet --------------------------------------------------------------------------------------------

namespace {

int columns_of(const Sweep& sweep, int64_t pictures) {
  // A row for each value of the slower sweeps; without sweeps as square as it can be.
  return sweep.axes().empty() ? static_cast<int>(std::ceil(std::sqrt(static_cast<double>(pictures))))
                              : static_cast<int>(sweep.axes().back().values.size());
}

}  // namespace

// So that the whole sheet is of no more than about kSheetSide pixels a side.
Image Finisher::shrunk(Image image) const {
  constexpr int kSheetSide = 8192, kBetween = 32, kLeast = 16;
  const int columns = std::max(columns_of(options_.sweep, pictures_), 1);
  const int rows = static_cast<int>((pictures_ + columns - 1) / columns);
  const double room = std::max<double>(static_cast<double>(kSheetSide) / std::max(columns, rows) - kBetween, kLeast);
  const double scale = room / std::max(image.width, image.height);
  if (scale >= 1) return image;
  const auto scaled = [&](int side) { return std::max(1, static_cast<int>(side * scale)); };
  return resize(image, scaled(image.width), scaled(image.height));
}

void Finisher::add_to_grid(const Finished& f) {
  if (f.status == Finished::Status::kBadLine) return;
  LabelledImage& cell = grid_[f.turn];
  if (f.status == Finished::Status::kFailed || f.status == Finished::Status::kCancelled) {
    cell.label = word_of(f.status);
    return;
  }
  const std::string swept = options_.sweep.label(f.job.sweep);
  cell.label = swept.empty() ? "seed " + std::to_string(*f.request.seed) : swept;
  cell.image = shrunk(f.picture ? f.picture->image : read_png(f.done));
}

void Finisher::draw_grid() {
  if (grid_.empty()) return;
  std::vector<LabelledImage> cells;
  for (auto& [turn, cell] : grid_) cells.push_back(std::move(cell));
  const int columns = columns_of(options_.sweep, static_cast<int64_t>(cells.size()));
  write_file_atomically(*options_.grid, encode_png(contact_sheet(cells, columns), {}), options_.output.files.overwrite);
  log::note("grid: " + *options_.grid);
}

}  // namespace easel::cli
