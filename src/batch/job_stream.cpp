// Jobs → pictures: flags and sweeps laid over the lines, seeds, wildcards, shards.
#include <array>
#include <limits>

#include "batch/job_paths.h"
#include "easel/batch.h"
#include "easel/jobs.h"

namespace easel {

namespace {

constexpr uint64_t kLargestSeed = std::numeric_limits<uint64_t>::max();
constexpr int64_t kMostFaults = 20;  // that are shown

struct PromptField {
  std::optional<std::string> Request::*text;
  uint64_t stream;  // so that prompts of one picture choose apart
};
constexpr std::array kPromptFields = {PromptField{&Request::prompt, 0},
                                      PromptField{&Request::negative_prompt, 0x9D5C'F3A1'0B27'6E41},
                                      PromptField{&Request::prompt_2, 0x31E8'6A0F'C4D9'5B73},
                                      PromptField{&Request::negative_prompt_2, 0xC27B'14E6'8F50'A9DD}};

}  // namespace

Request lay_over(Request base, const Request& over) {
  for (const RequestField& field : request_fields()) {
    std::visit(
        [&](auto member) {
          if (over.*member) base.*member = over.*member;
        },
        field.member);
  }
  return base;
}

nlohmann::ordered_json job_json(const Request& request) {
  Request absolute = request;
  lead_paths_from(absolute, std::filesystem::current_path());
  nlohmann::ordered_json out = to_json(absolute);
  for (const PromptField& field : kPromptFields) {
    if (request.*(field.text) && has_wildcards(*(request.*(field.text)))) out["wildcards"] = false;
  }
  return out;
}

// ---- one job at a time --------------------------------------------------------------------------------------------

struct JobStream::State {
  State(JobReader reader, JobOptions options) : reader(std::move(reader)), options(std::move(options)) {
    this->options.flags.seed.reset();
  }

  JobReader reader;
  JobOptions options;
  JobLine job = {};           // the current one
  Request request = {};       // its line under the flags
  int64_t next_index = 0;     // of the first picture after the current job
  int64_t first_index = 0;    // of its first picture
  int64_t count = 0, at = 0;  // its pictures of one combination; the next of all its pictures

  int64_t pictures() const { return count * options.sweep.size(); }
  uint64_t seed_of(const Request& request) const {
    return request.seed ? *request.seed : options.base_seed + static_cast<uint64_t>(job.index);
  }

  Request combination(int64_t index) const { return lay_over(request, options.sweep.combination(index)); }
  void begin(JobLine line, const std::string& where);
  void check(const std::string& where);
  void check_prompts(const Request& request, Faults& faults) const;
  void check_seed(const Request& request, Faults& faults) const;
  void check_output(Faults& faults) const;
  JobEvent picture();
};

void JobStream::State::check_seed(const Request& request, Faults& faults) const {
  const bool own = request.seed.has_value();
  if (!own && static_cast<uint64_t>(job.index) > kLargestSeed - options.base_seed) {
    faults.add("base seed " + std::to_string(options.base_seed) + " + " + std::to_string(job.index) +
               " is past 18446744073709551615");
  } else if (static_cast<uint64_t>(count - 1) > kLargestSeed - seed_of(request)) {
    faults.add("seed " + std::to_string(seed_of(request)) + " with batch_count " + std::to_string(count) +
               ": the last seed would be past 18446744073709551615");
  }
}

void JobStream::State::check_prompts(const Request& request, Faults& faults) const {
  if (!options.wildcards || !job.wildcards) return;
  for (const PromptField& field : kPromptFields) {
    if (request.*(field.text)) check_wildcards(*(request.*(field.text)), *options.wildcards, faults);
  }
}

void JobStream::State::check_output(Faults& faults) const {
  if (job.output.empty() || pictures() == 1) return;
  Faults none;
  const NameTemplate name(job.output, "output", none);
  if (!name.has("index") && !name.has("seed"))
    faults.add("output " + json(job.output).dump() + ": " + std::to_string(pictures()) +
               " pictures need {index} or {seed} in the name");
}

void JobStream::State::check(const std::string& where) {
  Faults faults;
  check_output(faults);
  for (int64_t i = 0; i < options.sweep.size(); ++i) {
    Request whole = combination(i);
    check_seed(whole, faults);
    check_prompts(whole, faults);
    whole.seed.reset();
    if (options.check) options.check(whole, faults);
  }
  for (const std::string& fault : faults.list()) {  // combinations share most of theirs
    const std::string full = where + fault;
    if (std::find(job.faults.begin(), job.faults.end(), full) == job.faults.end()) job.faults.push_back(full);
  }
}

void JobStream::State::begin(JobLine line, const std::string& where) {
  job = std::move(line);
  count = job.batch_count.value_or(options.batch_count);
  at = 0;
  first_index = next_index;
  if (__builtin_add_overflow(next_index, pictures(), &next_index))
    throw Error(ErrorKind::kUsage, where + "more than 9223372036854775807 pictures");
  request = lay_over(job.request, options.flags);
  if (job.faults.empty()) check(where);
}

JobEvent JobStream::State::picture() {
  JobPicture picture{.index = first_index + at, .job = job.index, .line = job.line, .sweep = at / count};
  picture.request = combination(picture.sweep);
  picture.request.seed = seed_of(picture.request) + static_cast<uint64_t>(at % count);
  picture.id = job.id;
  picture.output = job.output;
  ++at;
  Faults faults;
  if (options.wildcards && job.wildcards) {
    for (const PromptField& field : kPromptFields) {
      std::optional<std::string>& text = picture.request.*(field.text);
      if (text) text = expand(*text, *options.wildcards, *picture.request.seed ^ field.stream, faults);
    }
  }
  if (faults.empty()) return {.kind = JobEvent::Kind::kPicture, .picture = std::move(picture), .line = job.line};
  JobEvent event{.kind = JobEvent::Kind::kBadLine, .line = job.line};
  for (const std::string& fault : faults.list()) event.faults.push_back(reader.place_of(job.line) + fault);
  return event;
}

JobStream::JobStream(JobReader reader, JobOptions options)
    : state_(std::make_unique<State>(std::move(reader), std::move(options))) {}
JobStream::~JobStream() = default;
JobStream::JobStream(JobStream&&) noexcept = default;

JobEvent JobStream::next() {
  State& s = *state_;
  while (s.at == s.pictures()) {
    std::optional<JobLine> line = s.reader.next();
    if (!line) return {.kind = JobEvent::Kind::kEnd};
    if (line->index < 0) return {.kind = JobEvent::Kind::kCancel, .line = line->line, .cancel = line->cancel};
    const bool mine = s.options.shard.has(line->index);
    const std::string where = s.reader.place_of(line->line);
    s.begin(std::move(*line), where);
    if (!mine || !s.job.faults.empty()) s.at = s.pictures();
    if (mine && !s.job.faults.empty())
      return {.kind = JobEvent::Kind::kBadLine, .line = s.job.line, .faults = s.job.faults};
  }
  return s.picture();
}

bool JobStream::is_ready() { return state_->at < state_->pictures() || state_->reader.is_ready(); }

// ---- checking a file ----------------------------------------------------------------------------------------------

struct JobChecker {
  static JobCheck check(JobReader reader, const JobOptions& options) {
    JobCheck result;
    JobStream::State state(std::move(reader), options);
    while (std::optional<JobLine> line = state.reader.next()) {
      const std::string where = state.reader.place_of(line->line);
      if (line->index < 0) continue;
      state.begin(std::move(*line), where);
      for (const std::string& fault : state.job.faults) {
        if (++result.fault_count <= kMostFaults) result.faults.push_back(fault);
      }
    }
    result.lines = state.reader.lines();
    result.jobs = state.reader.jobs();
    result.pictures = state.next_index;
    return result;
  }
};

JobCheck check_jobs(const std::filesystem::path& file, const JobFileOptions& file_options, const JobOptions& options) {
  std::error_code error;
  if (std::filesystem::exists(file, error) && !std::filesystem::is_regular_file(file, error))
    throw Error(ErrorKind::kFile, file.string() + ": no regular file, so it cannot be checked before it is run");
  return JobChecker::check(JobReader(file, file_options), options);
}

void JobCheck::add_to(Faults& all, const std::string& name) const {
  for (const std::string& fault : faults) all.add(fault);
  const int64_t more = fault_count - static_cast<int64_t>(faults.size());
  if (more > 0) all.add(name + ": and " + std::to_string(more) + " more faults");
}

}  // namespace easel
