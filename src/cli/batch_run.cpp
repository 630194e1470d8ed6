#include "cli/batch_run.h"

#include "cli/results.h"

namespace easel::cli {

namespace {

// Pictures that wait for others of their kind, in batches and at least.
constexpr int64_t kWindowBatches = 8, kWindow = 64;
// Seconds that measuring may take, and pictures from which on it pays.
constexpr double kMeasuringSeconds = 2;
constexpr int64_t kWorthMeasuring = 16, kMostTogether = 32;

// Every picture that was being drawn has been cancelled.
struct Cancelled {};

bool is_of_picture(const Error& error) {
  return error.kind() == ErrorKind::kPicture || error.kind() == ErrorKind::kFile || error.kind() == ErrorKind::kUsage;
}

// What else decides the pictures, for the manifest's header.
std::string command_hash(const GenerateOptions& options) {
  Request flags = options.flags;
  flags.seed.reset();
  json sweeps = json::array();
  for (const Sweep::Axis& axis : options.sweep.axes()) sweeps.push_back({axis.field->name, axis.values});
  const json command = {{"flags", to_json(flags)},
                        {"default_model", options.default_model},
                        {"sweeps", sweeps},
                        {"batch_count", options.batch_count},
                        {"deterministic", options.deterministic}};
  return sha256_of(command.dump());
}

}  // namespace

BatchRun::BatchRun(const GenerateOptions& options, const JobSource& source, ModelsInUse& models, Outputs& outputs)
    : options_(options),
      source_(source),
      models_(models),
      outputs_(outputs),
      jobs_(source.stream()),
      progress_(options.messages.progress, source.pictures()),
      trajectory_{.every = options.trajectory_every} {}

int BatchRun::run() {
  const auto wants_more = [&] { return !at_end_ && !(packer_ && packer_->is_full()); };
  try {
    while (true) {
      while (wants_more() && (!packer_ || packer_->is_empty() || jobs_.is_ready())) at_end_ = !read_one();
      if (!packer_) break;  // no picture at all
      check_interrupted();
      // What is ready does not wait for a pipe's other end.
      if (const auto pack = packer_->next(at_end_ || (source_.is_live() && !jobs_.is_ready())))
        draw(*pack);
      else if (at_end_)
        break;
    }
    if (finisher_) finisher_->close();
  } catch (const Interrupted&) {
    if (finisher_) finisher_->close();
    log::note("interrupted: " + std::to_string(progress_.finished()) +
              (source_.pictures() < 0 ? "" : " of " + std::to_string(source_.pictures())) + " pictures finished");
    throw;
  }
  if (skipped_ > 0) log::note(std::to_string(skipped_) + " pictures were done before");
  if (stopped_by_) throw *stopped_by_;
  if (failed_ + bad_lines_ == 0) return 0;
  if (failed_ > 0) log::error(std::to_string(failed_) + " of " + std::to_string(next_turn_) + " pictures failed");
  if (bad_lines_ > 0) log::error(std::to_string(bad_lines_) + " bad lines were left out");
  return static_cast<int>(ErrorKind::kPicture);
}

// ---- reading ------------------------------------------------------------------------------------------------------

bool BatchRun::read_one() {
  JobEvent event = jobs_.next();
  switch (event.kind) {
    case JobEvent::Kind::kPicture:
      add(std::move(event.picture));
      return true;
    case JobEvent::Kind::kBadLine:
      bad_line(event);
      return !stopped_by_;
    case JobEvent::Kind::kCancel:
      cancel(event.cancel);
      return true;
    case JobEvent::Kind::kEnd:
      break;
  }
  return false;
}

void BatchRun::bad_line(const JobEvent& event) {
  if (!options_.keep_going) {  // of a pipe; what was read before it is drawn
    stopped_by_ = Error(ErrorKind::kUsage, event.faults, "--keep-going leaves bad lines out");
    return;
  }
  for (const std::string& fault : event.faults) log::error(fault);
  ++bad_lines_;
}

void BatchRun::cancel(const json& id) {
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    Waiting& waiting = at->second;
    if (waiting.job.id != id) {
      ++at;
    } else if (drawing_.contains(at->first)) {
      cancelled_.insert(at->first);
      ++at;
    } else {
      packer_->remove(at->first);
      drop(waiting, Finished::Status::kCancelled);
      at = waiting_.erase(at);
    }
  }
}

void BatchRun::add(JobPicture job) {
  Waiting waiting{std::move(job), next_turn_++, {}};
  try {
    resolve_job(waiting);
    if (!packer_) prepare(waiting.request);
    look_up(waiting);
  } catch (const Error& error) {
    if (!options_.is_batch() || !is_of_picture(error)) throw;
    fail(waiting, error);
    return;
  }
  packer_->add(waiting.job.index, pack_key(waiting.request, models_.open(waiting.request)));
  waiting_.emplace(waiting.job.index, std::move(waiting));
}

void BatchRun::resolve_job(Waiting& waiting) {
  Request request = waiting.job.request;
  if (!request.model) request.model = options_.default_model;
  if (!request.prompt) request.prompt = "";  // of a model that takes none
  const Checkpoint& checkpoint = models_.open(request);
  std::vector<std::string> notes;
  const bool lenient = options_.from_file || options_.sweep.size() > 1;
  waiting.request = resolve(request, checkpoint, precision_of(request), lenient ? &notes : nullptr);
  for (const std::string& note : notes) {
    if (told_.insert(note).second) log::note(note);
  }
}

// In the manifest of the run that is resumed, and among the files.
void BatchRun::look_up(Waiting& waiting) {
  if (recorded_) {
    Faults faults;
    const PictureState state = picture_state(*recorded_, waiting.job.index, to_json(waiting.job.request), faults);
    faults.raise_if_any(ErrorKind::kUsage, "the jobs or the flags are not those of the run that is resumed");
    waiting.is_done = state == PictureState::kDone;
    waiting.replace = state == PictureState::kLost;
  }
  if (waiting.is_done || options_.output.to_standard_output || options_.skip_save) return;
  const std::string obstacle = outputs_.obstacle_of(facts_of(waiting));
  if (!obstacle.empty()) throw Error(ErrorKind::kUsage, obstacle);
}

// ---- before the first picture -------------------------------------------------------------------------------------

void BatchRun::prepare(const Request& first) {
  if (options_.resume && std::filesystem::exists(*options_.manifest)) {
    manifest_.emplace(ManifestWriter::resume(*options_.manifest, {.base_seed = source_.base_seed(),
                                                                  .batch_size = options_.batch_size,
                                                                  .shard = options_.shard.value_or(Shard{}),
                                                                  .command = command_hash(options_)}));
    recorded_.emplace(*options_.manifest);
  }
  const int64_t batch_size = manifest_ ? manifest_->header().batch_size : choose_batch_size(first);
  if (options_.manifest && !manifest_) open_manifest(batch_size);
  packer_.emplace(batch_size, std::max(kWindow, kWindowBatches * batch_size));
  finisher_.emplace(options_, outputs_, manifest_ ? &*manifest_ : nullptr, progress_, 2 * batch_size);
}

void BatchRun::open_manifest(int64_t batch_size) {
  const Shard shard = options_.shard.value_or(Shard{});
  manifest_.emplace(ManifestWriter::create(*options_.manifest, {.base_seed = source_.base_seed(),
                                                                .batch_size = batch_size,
                                                                .shard_count = shard.count,
                                                                .shards = {shard.index},
                                                                .command = command_hash(options_)}));
}

int64_t BatchRun::choose_batch_size(const Request& first) {
  if (options_.deterministic || options_.trajectory || options_.output.to_standard_output) return 1;
  if (options_.batch_size) return *options_.batch_size;
  const int64_t pictures = source_.pictures();
  if (pictures >= 0 && pictures < kWorthMeasuring) return 1;
  Pipeline& pipeline = models_.pipeline(first);
  const int64_t most = pictures < 0 ? kMostTogether : std::min(pictures, kMostTogether);
  const int64_t size = best_batch_size([&](int64_t together) { return pipeline.seconds_of_call(first, together); },
                                       most, kMeasuringSeconds);
  log::verbose("batch size " + std::to_string(size) + ", measured");
  return size;
}

// ---- drawing ------------------------------------------------------------------------------------------------------

void BatchRun::draw(const std::vector<int64_t>& pack) {
  std::vector<Request> requests;
  bool any_missing = false;
  for (const int64_t index : pack) {
    requests.push_back(waiting_.at(index).request);
    any_missing |= !waiting_.at(index).is_done;
  }
  // A pack is drawn as it was the first time, whole, and only what is missing is written: a picture's last bits depend
  // on the pictures beside it.
  std::optional<std::vector<Outcome>> outcomes;
  if (any_missing) {
    drawing_.insert(pack.begin(), pack.end());
    progress_.start_pictures(pack.front(), static_cast<int64_t>(pack.size()));
    try {
      outcomes = outcomes_of(requests);
    } catch (const Cancelled&) {  // all of them
    }
    drawing_.clear();
  }
  for (std::size_t i = 0; i < pack.size(); ++i) {
    Waiting waiting = std::move(waiting_.at(pack[i]));
    waiting_.erase(pack[i]);
    if (waiting.is_done) {
      ++skipped_;
      drop(waiting, Finished::Status::kSkipped);
    } else if (cancelled_.erase(pack[i]) > 0 || !outcomes) {
      drop(waiting, Finished::Status::kCancelled);
    } else if (const Error* error = std::get_if<Error>(&(*outcomes)[i])) {
      if (!options_.is_batch()) throw *error;
      fail(waiting, *error);
    } else {
      hand_over(waiting, std::get<Picture>(std::move((*outcomes)[i])));
    }
  }
}

// Together; where that is not possible, in halves, so that one picture's fault or size does not fail the others.
std::vector<Outcome> BatchRun::outcomes_of(const std::vector<Request>& requests) {
  try {
    const InterruptPatience patience;
    const auto on_call = [&](int done, int total) {
      progress_.step(done, total);
      read_while_drawing();
    };
    return models_.pipeline(requests.front()).generate(requests, on_call, options_.trajectory ? &trajectory_ : nullptr);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kMemory && !is_of_picture(error)) throw;
    if (requests.size() == 1) {
      if (error.kind() == ErrorKind::kMemory) throw;
      return {error};
    }
  }
  const auto middle = requests.begin() + static_cast<std::ptrdiff_t>(requests.size() / 2);
  std::vector<Outcome> outcomes = outcomes_of({requests.begin(), middle});
  for (Outcome& outcome : outcomes_of({middle, requests.end()})) outcomes.push_back(std::move(outcome));
  return outcomes;
}

// A stream may cancel what is being drawn.
void BatchRun::read_while_drawing() {
  if (!source_.is_live()) return;
  while (!at_end_ && !packer_->is_full() && jobs_.is_ready()) at_end_ = !read_one();
  if (!drawing_.empty() && std::includes(cancelled_.begin(), cancelled_.end(), drawing_.begin(), drawing_.end()))
    throw Cancelled();
}

NameFacts BatchRun::facts_of(const Waiting& waiting) {
  const Request& r = waiting.request;
  return {waiting.job.index, *r.seed, *r.prompt, *r.sampler, models_.open(r).name()};
}

void BatchRun::hand_over(Waiting& waiting, Picture picture) {
  Finished finished;
  finished.turn = waiting.turn;
  finished.facts = facts_of(waiting);
  finished.job = std::move(waiting.job);
  finished.request = std::move(waiting.request);
  finished.request.dtype = picture.precision.dtype_name();  // f32 after a retry
  finished.replace = waiting.replace;
  if (options_.output.metadata && !options_.skip_save)
    finished.texts = png_texts(finished.request, models_.hashes(), models_.open(finished.request));
  finished.picture = std::move(picture);
  finisher_->take(std::move(finished));
  if (options_.trajectory) save_trajectory();
}

void BatchRun::fail(const Waiting& waiting, const Error& error) {
  ++failed_;
  const std::string which = "picture " + std::to_string(waiting.job.index) + ": ";
  for (const std::string& fault : error.faults()) log::error(which + fault);
  if (!error.hint().empty()) log::note(error.hint());
  if (!finisher_) return;
  Finished finished;
  finished.status = Finished::Status::kFailed;
  finished.turn = waiting.turn;
  finished.job = waiting.job;
  finished.error = error.what();
  finisher_->take(std::move(finished));
}

void BatchRun::drop(const Waiting& waiting, Finished::Status status) {
  Finished finished;
  finished.status = status;
  finished.turn = waiting.turn;
  finished.job = waiting.job;
  finisher_->take(std::move(finished));
}

// x_t in the upper row, x_0 as it was predicted in the lower one.
void BatchRun::save_trajectory() {
  const int columns = static_cast<int>(trajectory_.noisy.size());
  std::vector<LabelledImage> cells = std::move(trajectory_.noisy);
  for (LabelledImage& cell : trajectory_.predicted) cells.push_back({std::move(cell.image), "x0 at " + cell.label});
  write_file_atomically(*options_.trajectory, encode_png(contact_sheet(cells, columns), {}), /*overwrite=*/false);
  log::note("trajectory: " + *options_.trajectory);
}

}  // namespace easel::cli
