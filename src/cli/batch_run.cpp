#include "cli/batch_run.h"

#include "cli/out_of_memory.h"
#include "cli/preflight.h"

namespace easel::cli {

namespace {

// Pictures that wait for others of their kind, in batches and at least.
constexpr int64_t kWindowBatches = 8, kWindow = 64;
// Seconds that measuring may take, and pictures from which on it pays.
constexpr double kMeasuringSeconds = 2;
constexpr int64_t kWorthMeasuring = 16, kMostTogether = 32;

// No picture that is being drawn is wanted any more.
struct Cancelled {};

}  // namespace

bool is_of_picture(const Error& error) {
  return error.kind() == ErrorKind::kPicture || error.kind() == ErrorKind::kFile || error.kind() == ErrorKind::kUsage ||
         error.kind() == ErrorKind::kMemory;
}

BatchRun::BatchRun(const GenerateOptions& options, const JobSource& source, ModelsInUse& models, Outputs& outputs)
    : options_(options),
      source_(source),
      models_(models),
      outputs_(outputs),
      jobs_(source.stream()),
      progress_(options.messages.progress, source.pictures()),
      trajectory_{.every = options.trajectory_every} {}

int BatchRun::run() {
  finisher_.emplace(options_, outputs_, progress_, source_.pictures());
  if (options_.resume && std::filesystem::exists(*options_.manifest)) resume();
  try {
    draw_all();
    finisher_->close();
  } catch (const Interrupted&) {
    finisher_->close();
    log::note("interrupted: " + std::to_string(progress_.finished()) +
              (source_.pictures() < 0 ? "" : " of " + std::to_string(source_.pictures())) + " pictures finished");
    throw;
  }
  if (skipped_ > 0) log::note(std::to_string(skipped_) + " pictures were done before");
  if (stopped_by_) throw *stopped_by_;
  return exit_code();
}

void BatchRun::draw_all() {
  const auto wants_more = [&] { return !at_end_ && !(packer_ && packer_->is_full()); };
  while (true) {
    while (wants_more() && (!packer_ || packer_->is_empty() || jobs_.is_ready())) at_end_ = !read_one();
    if (!packer_) return;  // no picture at all
    check_interrupted();
    // What is ready does not wait for a pipe's other end.
    if (const auto pack = packer_->next(at_end_ || (source_.is_live() && !jobs_.is_ready())))
      draw(*pack);
    else if (at_end_)
      return;
  }
}

int BatchRun::exit_code() const {
  const int64_t failed = failed_ + finisher_->failed();
  if (failed > 0) log::error(std::to_string(failed) + " of " + std::to_string(pictures_) + " pictures failed");
  if (bad_lines_ > 0) log::error(std::to_string(bad_lines_) + " bad lines were left out");
  if (failed_ > 0 && failed_ == pictures_ && bad_lines_ == 0) return static_cast<int>(lowest_kind_);
  if (failed + bad_lines_ > 0) return static_cast<int>(ErrorKind::kPicture);
  return finisher_->unexpected() > 0 ? static_cast<int>(ErrorKind::kExpectation) : 0;
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
  if (options_.keep_going) {
    for (const std::string& fault : event.faults) log::error(fault);
    ++bad_lines_;
  } else {  // of a pipe; what was read before it is drawn
    stopped_by_ = Error(ErrorKind::kUsage, event.faults, "--keep-going leaves bad lines out");
  }
  Finished finished;
  finished.status = Finished::Status::kBadLine;
  finished.turn = next_turn_++;
  finished.job.line = event.line;
  finished.error = listed(event.faults);
  finisher_->take(std::move(finished));
}

void BatchRun::cancel(const json& id) {
  bool is_known = false;
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    Waiting& waiting = at->second;
    const bool is_meant = waiting.job.id == id, is_drawn = drawing_.contains(at->first);
    is_known |= is_meant;
    if (is_meant && is_drawn) cancelled_.insert(at->first);
    if (!is_meant || is_drawn) {
      ++at;
      continue;
    }
    packer_->remove(at->first);
    drop(waiting, Finished::Status::kCancelled);
    at = waiting_.erase(at);
  }
  if (!is_known) log::note("cancel " + id.dump() + ": no such job is waiting or being drawn");
}

void BatchRun::add(JobPicture job) {
  Waiting waiting{std::move(job), next_turn_++, {}, {}};
  ++pictures_;
  if (const std::optional<Error> error = prepare(waiting)) {
    if (!options_.is_batch()) throw *error;
    fail(waiting, *error);
    return;
  }
  packer_->add(waiting.job.index, pack_key(waiting.request, models_.open(waiting.request)));
  waiting_.emplace(waiting.job.index, std::move(waiting));
}

// The picture's own fault; what is the run's is thrown.
std::optional<Error> BatchRun::prepare(Waiting& waiting) {
  int64_t batch_size = 1;
  try {
    resolve_job(waiting);
    if (!packer_) batch_size = choose_batch_size(waiting.request);
  } catch (const Error& error) {
    if (!is_of_picture(error) || is_of_run(error, waiting.request)) throw;
    return error;
  }
  if (!packer_) begin(batch_size);
  look_up(waiting);
  if (waiting.done || options_.output.to_standard_output || options_.skip_save) return std::nullopt;
  const std::string obstacle = outputs_.obstacle_of(facts_of(waiting));
  return obstacle.empty() ? std::nullopt : std::optional(Error(ErrorKind::kUsage, obstacle));
}

void BatchRun::resolve_job(Waiting& waiting) {
  std::vector<std::string> notes;
  waiting.request = resolved(waiting.job, options_, models_, notes);
  constexpr std::size_t kMostNotes = 1000;  // they may hold numbers of their line
  for (const std::string& note : notes) {
    if (told_.size() < kMostNotes && told_.insert(note).second) log::note(note);
  }
}

// In the manifest of the run that is resumed, and among the files.
void BatchRun::look_up(Waiting& waiting) {
  if (!recorded_) return;
  Faults faults;
  const PictureState state = picture_state(*recorded_, waiting.job.index, to_json(waiting.job.request), faults);
  faults.raise_if_any(ErrorKind::kUsage, "the jobs or the flags are not those of the run that is resumed");
  if (state == PictureState::kDone) waiting.done = recorded_->find(waiting.job.index)->path;
  waiting.replace = state == PictureState::kLost;
}

// ---- before the first picture -------------------------------------------------------------------------------------

// Whatever else decides the pictures, for the manifest's header; the device is not in it: each shard may have its own.
std::string BatchRun::command_hash() {
  Request flags = options_.flags, defaults = options_.flags;
  if (!defaults.model) defaults.model = options_.default_model;
  const Precision precision = precision_of(flags);
  flags.seed.reset();
  flags.device.reset();
  flags.dtype = precision.dtype_name();
  const ModelHashes hashes = model_hashes(models_.open(defaults), precision.unet != at::kFloat);
  json sweeps = json::array();
  for (const Sweep::Axis& axis : options_.sweep.axes()) sweeps.push_back({axis.field->name, axis.values});
  const json command = {{"flags", to_json(flags)},
                        {"models", {defaults.model.value(), hashes.model, hashes.vae, hashes.refiner}},
                        {"sweeps", sweeps},
                        {"batch_count", options_.batch_count},
                        {"metadata", options_.output.metadata},
                        {"deterministic", options_.deterministic}};
  return sha256_of(command.dump());
}

void BatchRun::resume() {
  manifest_.emplace(
      ManifestWriter::resume(*options_.manifest, {.base_seed = source_.base_seed(),
                                                  .batch_size = options_.deterministic ? 1 : options_.batch_size,
                                                  .shard = options_.shard.value_or(Shard{}),
                                                  .command = command_hash()}));
  recorded_.emplace(*options_.manifest);
  begin(manifest_->header().batch_size);
}

// The manifest of a new run appears when its first picture can be drawn.
void BatchRun::begin(int64_t batch_size) {
  const Shard shard = options_.shard.value_or(Shard{});
  if (options_.manifest && !manifest_)
    manifest_.emplace(ManifestWriter::create(*options_.manifest, {.base_seed = source_.base_seed(),
                                                                  .batch_size = batch_size,
                                                                  .shard_count = shard.count,
                                                                  .shards = {shard.index},
                                                                  .command = command_hash()}));
  if (manifest_ && source_.is_live() && batch_size > 1)
    log::note(
        "pictures of a stream go together as they come, so a resumed run repeats them up to rounding; "
        "--batch-size 1 repeats them exactly");
  packer_.emplace(batch_size, std::max(kWindow, kWindowBatches * batch_size));
  finisher_->begin(manifest_ ? &*manifest_ : nullptr, 2 * batch_size);
}

int64_t BatchRun::choose_batch_size(const Request& first) {
  if (options_.deterministic || options_.trajectory || options_.output.to_standard_output) return 1;
  if (options_.batch_size) return *options_.batch_size;
  const int64_t pictures = source_.pictures();
  if (pictures >= 0 && pictures < kWorthMeasuring) return 1;
  Pipeline& pipeline = models_.pipeline(first);
  const int64_t most = pictures < 0 ? kMostTogether : std::min(pictures, kMostTogether);
  const auto seconds_of = [&](int64_t together) -> std::optional<double> {
    try {
      return pipeline.seconds_of_call(first, together);
    } catch (const Interrupted&) {
      throw;
    } catch (...) {
      if (together > 1 && out_of_memory_in_flight()) return std::nullopt;
      throw;
    }
  };
  const int64_t size = best_batch_size(seconds_of, most, kMeasuringSeconds);
  log::verbose("batch size " + std::to_string(size) + ", measured");
  return size;
}

// ---- drawing ------------------------------------------------------------------------------------------------------

void BatchRun::draw(const std::vector<int64_t>& pack) {
  const std::optional<std::vector<Outcome>> outcomes = outcomes_of_pack(pack);
  for (std::size_t i = 0; i < pack.size(); ++i) {
    Waiting waiting = std::move(waiting_.at(pack[i]));
    waiting_.erase(pack[i]);
    if (waiting.done) {
      ++skipped_;
      drop(waiting, Finished::Status::kSkipped);
    } else if (cancelled_.erase(pack[i]) > 0 || !outcomes) {
      drop(waiting, Finished::Status::kCancelled);
    } else if (const Error* error = std::get_if<Error>(&(*outcomes)[i])) {
      if (!options_.is_batch()) throw *error;
      fail(waiting, *error);
    } else {
      hand_over(waiting, std::get<Picture>((*outcomes)[i]));
    }
  }
  if (broken_by_) std::rethrow_exception(broken_by_);
}

// A pack is drawn as it was the first time, whole, and only what is missing is written: a picture's last bits depend on
// the pictures beside it. nullopt: nothing of it is wanted.
std::optional<std::vector<Outcome>> BatchRun::outcomes_of_pack(const std::vector<int64_t>& pack) {
  std::vector<Request> requests;
  for (const int64_t index : pack) {
    requests.push_back(waiting_.at(index).request);
    if (!waiting_.at(index).done) drawing_.insert(index);
  }
  if (drawing_.empty()) return std::nullopt;
  std::optional<std::vector<Outcome>> outcomes;
  progress_.start_pictures(pack.front(), static_cast<int64_t>(pack.size()));
  try {
    outcomes = outcomes_of(requests);
  } catch (const Cancelled&) {
  }
  drawing_.clear();
  return outcomes;
}

// Together; where that is not possible, in halves, so that one picture's fault or size does not fail the others.
std::vector<Outcome> BatchRun::outcomes_of(const std::vector<Request>& requests) {
  const auto on_call = [&](int done, int total) {
    progress_.step(done, total);
    read_while_drawing();
  };
  const auto alone = [&](const Error& error) -> std::optional<Outcome> {
    if (!is_of_picture(error) || is_of_run(error, requests.front())) throw error;
    return requests.size() == 1 ? std::optional<Outcome>(error) : std::nullopt;
  };
  try {
    const InterruptPatience patience;
    return models_.pipeline(requests.front()).generate(requests, on_call, options_.trajectory ? &trajectory_ : nullptr);
  } catch (const Error& error) {
    if (auto outcome = alone(error)) return {std::move(*outcome)};
  } catch (const Interrupted&) {
    throw;
  } catch (const Cancelled&) {
    throw;
  } catch (...) {
    const std::optional<Error> error = out_of_memory_in_flight();
    if (!error) throw;
    if (auto outcome = alone(*error)) return {std::move(*outcome)};
  }
  const auto middle = requests.begin() + static_cast<std::ptrdiff_t>(requests.size() / 2);
  std::vector<Outcome> outcomes = outcomes_of({requests.begin(), middle});
  for (Outcome& outcome : outcomes_of({middle, requests.end()})) outcomes.push_back(std::move(outcome));
  return outcomes;
}

// The model that all pictures share cannot be read: no other picture can be drawn either.
bool BatchRun::is_of_run(const Error& error, const Request& r) const {
  return error.kind() == ErrorKind::kFile && !r.init_img && !r.mask && r.vae == options_.flags.vae &&
         r.refiner == options_.flags.refiner &&
         r.model.value_or("") == options_.flags.model.value_or(options_.default_model);
}

// A stream may cancel what is being drawn. What goes wrong here is no fault of the pictures that are.
void BatchRun::read_while_drawing() {
  if (!source_.is_live()) return;
  try {
    while (!at_end_ && !packer_->is_full() && jobs_.is_ready()) at_end_ = !read_one();
  } catch (const Error&) {
    broken_by_ = std::current_exception();
    throw Cancelled();
  }
  if (!drawing_.empty() && std::includes(cancelled_.begin(), cancelled_.end(), drawing_.begin(), drawing_.end()))
    throw Cancelled();
}

NameFacts BatchRun::facts_of(const Waiting& waiting) {
  const Request& r = waiting.request;
  return {waiting.job.index, *r.seed, *r.prompt, *r.sampler, models_.open(r).name(), waiting.job.output};
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
  lowest_kind_ = std::min(lowest_kind_, error.kind());
  tell_failed(waiting.job.index, error);
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
  finished.request = waiting.request;
  if (waiting.done) finished.done = *waiting.done;
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
