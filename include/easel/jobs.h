// batch: jobs as text (job files, pipes, wildcards, sweeps, shards) and the pictures that follow from them. Nothing
// here opens a model.
#pragma once

#include <map>

#include "easel/pipeline.h"

namespace easel {

// ---- job files ----------------------------------------------------------------------------------------------------

// One job as its line says it. With `faults` the line is bad and the rest is what could be read of it.
struct JobLine {
  int64_t line = 0;   // in the file, from 1; of a CSV row that spans several, its first
  int64_t index = 0;  // of the job, from 0. A bad line counts, so that mending it moves no other job's seed; commands
                      // do not and have −1.
  Request request;    // only what the line says; relative paths lead from the job file's folder
  std::optional<int64_t> batch_count;
  std::string output;     // the name of its picture, a template as of -o; empty: that of the run
  bool wildcards = true;  // "wildcards": false keeps braces as they are: what was expanded once stays
  json id;                // of JSONL, a text or a whole number, to be said again with the results; null: none
  json cancel;            // the line was {"cancel": ID}: every job with this id before it is to stop; null: it was not
  std::vector<std::string> faults;  // "jobs.txt:17: --steps \"x\": expected …"
};

struct JobFileOptions {
  // Where relative paths lead from; unset: the job file's own folder, of a descriptor the working folder.
  std::optional<std::filesystem::path> folder = {};
  bool commands = false;  // {"cancel": ID} has a meaning: in streams
};

// Lines of a job file, one after another, in memory that does not grow with the file:
//   prompt lines   text, then flags " --name value" to the end, a value to the next " --word"; a line may begin with a
//                  flag (--prompt "…"). Double quotes at the start of a word group, and fall away where they hold a
//                  whole text or value; in them \" and \\ are " and \. Elsewhere \" is a quote that opens nothing.
//                  Names: the long flags, JSON's, and those of A1111 and kohya. Switches stand alone or say true,
//                  false.
//   JSON           a line that begins with {": names as JSON has them, batch_count, output, id, wildcards
//   CSV            a file whose name ends in .csv: first a line of names, `prompt` among them. RFC 4180. An empty cell
//                  is not given, "" is an empty text.
// "# …" at the start of a line is a comment, "\#" a literal; blank lines are skipped; a byte order mark and CR before
// LF are dropped. Lines of more than 1 MiB, NUL bytes, invalid UTF-8 are faults of their line.
class JobReader {
 public:
  // Throws Error(kFile) for what cannot be opened.
  explicit JobReader(const std::filesystem::path& file, JobFileOptions options = {});
  // An open descriptor, not closed at the end; `name` stands in faults ("stdin").
  JobReader(int fd, std::string name, JobFileOptions options = {});
  ~JobReader();
  JobReader(JobReader&&) noexcept;

  // The next job or command, which is waited for; nullopt at the end. Throws Error(kFile) for what cannot be read,
  // Interrupted when a signal ends the wait.
  std::optional<JobLine> next();
  // Whether next() would answer without waiting for a pipe's other end.
  bool is_ready();

  // Jobs so far, and lines.
  int64_t jobs() const;
  int64_t lines() const;
  std::string place_of(int64_t line) const;  // "jobs.txt:17: "

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The longest line, and the longest CSV row.
inline constexpr std::size_t kLongestJobLine = 1 << 20;

// `base` with the fields that `over` has.
Request lay_over(Request base, const Request& over);

// The request as a line of a job file: to_json() with absolute paths, and "wildcards": false where a prompt has braces
// or underscores that would be expanded.
nlohmann::ordered_json job_json(const Request& request);

// ---- wildcards ----------------------------------------------------------------------------------------------------

// The text files behind __name__: FOLDER/name.txt, a choice a line; blank lines and "# …" do not count, a choice may
// hold wildcards itself. Read when first needed, then kept. Not concurrent.
class WildcardSource {
 public:
  // Unset: __name__ is a fault that says how to give a folder.
  explicit WildcardSource(std::optional<std::filesystem::path> folder = {}) : folder_(std::move(folder)) {}

  // Throws Error(kFile): no folder, no such file, none in it, invalid UTF-8.
  const std::vector<std::string>& lines(const std::string& name) const;

 private:
  std::optional<std::filesystem::path> folder_;
  mutable std::map<std::string, std::vector<std::string>> files_;
};

// Whether expand() would do anything: wildcards or escapes of them.
bool has_wildcards(std::string_view prompt);

// The prompt with a choice made at every {a|b|c} (they nest; a choice may be empty) and every __name__. \{ \} \| and
// \__ are literal. The same prompt, files and seed give the same text on every machine. nullopt with faults, which do
// not name the prompt.
std::optional<std::string> expand(std::string_view prompt, const WildcardSource& source, uint64_t seed, Faults& faults);

// The faults of every choice there is, not of one: braces that do not pair, files that are missing or include
// themselves.
void check_wildcards(std::string_view prompt, const WildcardSource& source, Faults& faults);

// ---- sweeps -------------------------------------------------------------------------------------------------------

// --sweep cfg=4,7,10 --sweep sampler=ddim,euler: every combination, the first sweep slowest. Values with commas or
// quotes are quoted as in CSV: prompt="a cat, asleep",a dog
class Sweep {
 public:
  // Adds faults with `spelled` ("--sweep") in front: an unknown name, one swept twice, values the table refuses.
  void add(std::string_view text, const std::string& spelled, Faults& faults);

  struct Axis {
    const RequestField* field;
    std::vector<std::string> values;  // as written
    std::vector<Request> requests;    // with that field alone
  };
  const std::vector<Axis>& axes() const { return axes_; }
  int64_t size() const;  // combinations; 1 without sweeps
  // Only the swept fields.
  Request combination(int64_t index) const;
  std::string label(int64_t index) const;  // "cfg_scale 4, sampler ddim"; empty without sweeps

 private:
  std::vector<Axis> axes_;
};

// ---- shards -------------------------------------------------------------------------------------------------------

// Part `index` of `count`, from 0: the jobs whose index leaves this rest. Whole jobs, their pictures stay together.
struct Shard {
  int64_t index = 0, count = 1;

  bool has(int64_t job) const { return job % count == index; }
  bool operator==(const Shard&) const = default;
};
std::string to_string(const Shard& shard);  // "1/4"

using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

// "I/N"; "auto": from a Slurm array (task − first) / step of all its tasks, which must be evenly spaced; "auto/N": the
// Slurm task or the Kubernetes JOB_COMPLETION_INDEX itself, of N. Kubernetes tells a pod its index and not how many
// there are, so "auto" alone is a fault there; so it is where neither is set.
Shard parse_shard(std::string_view text, const std::string& spelled, const Environment& environment, Faults& faults);

// ---- pictures -----------------------------------------------------------------------------------------------------

// What is laid around the lines of a job file.
struct JobOptions {
  Request flags = {};       // of the command line: they win over the lines, but for the seed, which is not looked at
  uint64_t base_seed = 0;   // job k without a seed has base + k
  int64_t batch_count = 1;  // of lines that do not say it: pictures with seeds S, S + 1, …
  Sweep sweep = {};         // wins over lines and flags
  Shard shard = {};
  std::shared_ptr<const WildcardSource> wildcards = {};  // null: braces are text
  // More checks, of a job's whole request (each combination of the sweep, wildcards not expanded, without a seed).
  std::function<void(const Request&, Faults&)> check = {};
};

// A picture of a job.
struct JobPicture {
  int64_t index = 0;  // from 0 over the whole run, other shards' included
  int64_t job = 0;    // JobLine::index
  int64_t line = 0;
  int64_t sweep = 0;     // Sweep::combination
  Request request = {};  // with its seed, wildcards expanded; its prompt is unset where nothing gave one
  std::string output = {};
  json id = {};
};

struct JobEvent {
  enum class Kind { kPicture, kBadLine, kCancel, kEnd } kind = Kind::kEnd;
  JobPicture picture = {};               // kPicture
  int64_t line = 0;                      // kBadLine, kCancel
  std::vector<std::string> faults = {};  // kBadLine, with file and line
  json cancel = {};                      // kCancel: the id
};

// The pictures of a job file in order: job by job, for each the combinations of the sweep, for each its seeds. Pictures
// are made when asked for. A bad line takes as many indices as if it were good (where its batch_count can be read).
class JobStream {
 public:
  JobStream(JobReader reader, JobOptions options);
  ~JobStream();
  JobStream(JobStream&&) noexcept;

  // Waits as JobReader does, and throws what it throws; Error(kUsage) beyond 2^63 − 1 pictures.
  JobEvent next();
  bool is_ready();

 private:
  struct State;
  std::unique_ptr<State> state_;
  friend struct JobChecker;
};

// A whole regular file, read once in flat memory before anything runs.
struct JobCheck {
  int64_t lines = 0, jobs = 0;
  int64_t pictures = 0;             // of all shards
  int64_t fault_count = 0;          // all
  std::vector<std::string> faults;  // the first 20

  bool is_good() const { return fault_count == 0; }
  // The first faults and "jobs.txt: and 17 more faults".
  void add_to(Faults& faults, const std::string& name) const;
};
JobCheck check_jobs(const std::filesystem::path& file, const JobFileOptions& file_options, const JobOptions& options);

}  // namespace easel
