// Lines of job files → requests.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "batch/csv_rows.h"
#include "batch/job_names.h"
#include "batch/job_paths.h"
#include "batch/json_line.h"
#include "batch/line_reader.h"
#include "batch/prompt_line.h"
#include "easel/batch.h"
#include "easel/jobs.h"

namespace easel {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostPictures = 1'000'000;  // of one job

// One line's values, each name once.
class LineBuilder {
 public:
  explicit LineBuilder(JobLine& job) : job_(job) {}

  // Whether this is the first value of its field, or a further one of a list.
  bool claim(const JobName& name, const std::string& spelled) {
    if (name.field != nullptr && name.field->is_list()) return true;
    for (const auto& [other, other_spelled] : given_) {
      if (other.key != name.key || other.field != name.field) continue;
      faults.add(other_spelled == spelled ? spelled + " is given twice"
                                          : other_spelled + " and " + spelled + " say the same");
      return false;
    }
    given_.emplace_back(name, spelled);
    return true;
  }

  void set_from_text(const JobName& name, std::string_view text, const std::string& spelled) {
    if (!claim(name, spelled)) return;
    if (name.key == JobKey::kField) return easel::set_from_text(job_.request, *name.field, text, spelled, faults);
    if (name.key == JobKey::kBatchCount) return set_count(whole_number(text), json(text), spelled);
    if (name.key == JobKey::kOutput) return set_output(text, spelled);
    if (text != "true" && text != "false") return expect(spelled, json(text), "true or false");
    job_.wildcards = text == "true";
  }

  void set_switch(const JobName& name, const std::string& spelled) {
    if (!claim(name, spelled)) return;
    if (name.key == JobKey::kWildcards) return void(job_.wildcards = true);
    set_from_json(job_.request, *name.field, json(true), spelled, faults);
  }

  void set_from_json_value(const JobName& name, const json& value, const std::string& spelled) {
    if (!claim(name, spelled)) return;
    if (name.key == JobKey::kField) return set_from_json(job_.request, *name.field, value, spelled, faults);
    if (value.is_null()) return;
    if (name.key == JobKey::kBatchCount) {
      const bool is_whole = value.is_number_integer() && value >= 1 && value <= kMostPictures;
      return set_count(is_whole ? value.get<int64_t>() : 0, value, spelled);
    }
    if (name.key == JobKey::kOutput) {
      if (!value.is_string()) return expect(spelled, value, "a text");
      set_output(value.get_ref<const std::string&>(), spelled);
    } else if (name.key == JobKey::kWildcards) {
      if (!value.is_boolean()) return expect(spelled, value, "true or false");
      job_.wildcards = value.get<bool>();
    } else {
      if (!value.is_string() && !value.is_number_integer()) return expect(spelled, value, "a text or a whole number");
      (name.key == JobKey::kId ? job_.id : job_.cancel) = value;
    }
  }

  Faults faults;

 private:
  static int64_t whole_number(std::string_view text) {
    int64_t value = 0;
    for (const char c : text) {
      if (c < '0' || c > '9' || value > kMostPictures) return 0;
      value = value * 10 + (c - '0');
    }
    return value;
  }
  void set_count(int64_t count, const json& value, const std::string& spelled) {
    if (count < 1 || count > kMostPictures)
      return expect(spelled, value, "a whole number from 1 to " + std::to_string(kMostPictures));
    job_.batch_count = count;
  }
  void set_output(std::string_view text, const std::string& spelled) {
    if (const auto at = invalid_utf8_at(text))
      return faults.add(spelled + ": not valid UTF-8 at byte " + std::to_string(*at));
    const NameTemplate checked(text, spelled, faults);
    if (text.empty() || text == "-" || text.ends_with('/') || text.find('\0') != std::string_view::npos)
      return expect(spelled, json(text), "the name of a file");
    job_.output = text;
  }
  void expect(const std::string& spelled, const json& value, const std::string& expected) {
    faults.add(spelled + " " + shown(value) + ": expected " + expected);
  }

  JobLine& job_;
  std::vector<std::pair<JobName, std::string>> given_;
};

// ---- the three kinds of lines -------------------------------------------------------------------------------------

void read_flag(const PromptFlag& flag, LineBuilder& build) {
  const std::string spelled = "--" + flag.name;
  const auto name = find_job_flag(flag.name);
  if (!name) return build.faults.add("unknown flag --" + cut_short(flag.name, 60) + hint_for_flag(flag.name));
  const bool is_switch = name->key == JobKey::kWildcards || (name->field != nullptr && name->field->is_switch());
  if (flag.value) {
    build.set_from_text(*name, *flag.value, spelled);
  } else if (is_switch) {
    build.set_switch(*name, spelled);
  } else {
    build.faults.add(spelled + ": a value is missing; \"\" is an empty one");
  }
}

void read_prompt_line(std::string_view line, LineBuilder& build) {
  if (line.starts_with("\\#")) line.remove_prefix(1);
  const PromptLine parts = split_prompt_line(line);
  if (!parts.fault.empty()) return build.faults.add(parts.fault);
  if (parts.text) build.set_from_text(*find_job_flag("prompt"), *parts.text, "the prompt");
  for (const PromptFlag& flag : parts.flags) read_flag(flag, build);
}

void read_json_line(std::string_view line, bool commands, JobLine& job, LineBuilder& build) {
  std::string fault;
  const auto object = json_object(line, fault);
  if (!object) return build.faults.add(fault);
  for (const auto& [key, value] : object->items()) {
    const auto name = find_job_key(key);
    if (name) {
      build.set_from_json_value(*name, value, key);
    } else {
      build.faults.add("unknown key \"" + cut_short(key, 60) + "\"" + hint_for_key(key));
    }
  }
  if (!object->contains("cancel")) return;
  if (object->size() > 1) build.faults.add("cancel is a command: it stands alone on its line");
  if (job.cancel.is_null() && build.faults.empty()) build.faults.add("cancel null: expected a text or a whole number");
  if (!commands) build.faults.add("cancel has a meaning only in a stream of jobs, as --from-file - reads it");
}

// The names in the first row.
std::vector<JobName> read_csv_header(const CsvRow& row, Faults& faults) {
  std::vector<JobName> columns;
  JobLine unused;
  LineBuilder build(unused);
  bool has_prompt = false;
  if (!row.fault.empty()) faults.add(row.fault);
  for (const CsvCell& cell : row.cells) {
    const auto name = find_job_key(cell.text);
    if (!name || name->key == JobKey::kCancel) {
      faults.add("unknown column \"" + cut_short(cell.text, 60) + "\"" + hint_for_key(cell.text));
      continue;
    }
    build.claim(*name, "column " + cell.text);
    has_prompt |= name->field != nullptr && name->field->name == "prompt";
    columns.push_back(*name);
  }
  for (const std::string& fault : build.faults.list()) faults.add(fault);
  if (!has_prompt)
    faults.add("the first line of a CSV file names its columns, with commas between them, and one is prompt");
  return columns;
}

void read_csv_row(const CsvRow& row, const std::vector<JobName>& columns, const std::vector<std::string>& names,
                  JobLine& job, LineBuilder& build) {
  if (!row.fault.empty()) return build.faults.add(row.fault);
  if (row.cells.size() != columns.size())
    return build.faults.add(std::to_string(row.cells.size()) + " cells: expected " + std::to_string(columns.size()) +
                            ", as the first line has");
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const CsvCell& cell = row.cells[i];
    if (cell.text.empty() && !cell.is_quoted) continue;
    if (columns[i].key == JobKey::kId) {
      job.id = cell.text;
    } else {
      build.set_from_text(columns[i], cell.text, names[i]);
    }
  }
}

bool is_comment(std::string_view line) {
  return line.starts_with('#') && (line.size() == 1 || line[1] == ' ' || line[1] == '\t');
}

bool ends_in_csv(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".csv" || extension == ".CSV";
}

int open_job_file(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    throw Error(ErrorKind::kFile, file.string() + ": cannot be opened: " + std::generic_category().message(errno));
  return fd;
}

}  // namespace

// ---- the reader ---------------------------------------------------------------------------------------------------

struct JobReader::State {
  State(int fd, bool owned, std::string name, bool is_csv, JobFileOptions options)
      : fd(fd),
        owned(owned),
        name(std::move(name)),
        is_csv(is_csv),
        options(std::move(options)),
        lines(fd, this->name, kLongestJobLine) {}
  ~State() {
    if (owned) ::close(fd);
  }

  bool read_line(bool wait);
  bool read_text_line(JobLine& job);
  bool read_csv(JobLine& job);
  bool read_csv_columns(JobLine& job);
  void finish(JobLine& job, LineBuilder& build);

  int fd;
  bool owned;
  std::string name;
  bool is_csv;
  JobFileOptions options;
  LineReader lines;
  int64_t jobs = 0;
  bool ended = false;
  std::vector<JobName> columns;  // of CSV
  std::vector<std::string> column_names;
  std::optional<JobLine> pending;  // read by is_ready()
};

// Faults get their place, the job its index.
void JobReader::State::finish(JobLine& job, LineBuilder& build) {
  lead_paths_from(job.request, *options.folder);
  const std::string where = name + ":" + std::to_string(job.line) + ": ";
  for (const std::string& fault : build.faults.list()) job.faults.push_back(where + fault);
  const bool is_command = !job.cancel.is_null() && job.faults.empty();
  job.index = is_command ? -1 : jobs++;
}

namespace {

constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";

std::string fault_of_line(const LineReader& lines, std::string_view line) {
  if (lines.is_too_long()) return "longer than " + std::to_string(kLongestJobLine) + " bytes";
  if (lines.number() == 1 && (line.starts_with("\xFF\xFE") || line.starts_with("\xFE\xFF")))
    return "this is UTF-16; save the file as UTF-8";
  if (line.find('\0') != std::string_view::npos) return "it holds a NUL byte, so it is no text";
  if (const auto at = invalid_utf8_at(line)) return "not valid UTF-8 at byte " + std::to_string(*at);
  return "";
}

}  // namespace

// False where the line is no job.
bool JobReader::State::read_text_line(JobLine& job) {
  std::string text;
  if (!lines.next(text)) {
    ended = true;
    return false;
  }
  std::string_view line = text;
  if (lines.number() == 1 && line.starts_with(kUtf8Mark)) line.remove_prefix(kUtf8Mark.size());
  job.line = lines.number();
  LineBuilder build(job);
  if (const std::string fault = fault_of_line(lines, line); !fault.empty()) {
    build.faults.add(fault);
    ended = fault.find("UTF-16") != std::string::npos;
  } else if (is_comment(line) || line.find_first_not_of(" \t") == std::string_view::npos) {
    return false;
  } else if (line.starts_with("{\"")) {
    read_json_line(line, options.commands, job, build);
  } else {
    read_prompt_line(line, build);
  }
  finish(job, build);
  return true;
}

// The first row; true where it is a bad one, which ends the file.
bool JobReader::State::read_csv_columns(JobLine& job) {
  CsvRow row;
  LineBuilder build(job);
  if (!next_csv_row(lines, kLongestJobLine, row)) row.line = 1;
  if (!row.cells.empty() && row.cells[0].text.starts_with(kUtf8Mark)) row.cells[0].text.erase(0, kUtf8Mark.size());
  columns = read_csv_header(row, build.faults);
  for (const CsvCell& cell : row.cells) column_names.push_back(cell.text);
  if (build.faults.empty()) return false;
  ended = true;
  job.line = row.line;
  finish(job, build);
  return true;
}

bool JobReader::State::read_csv(JobLine& job) {
  if (columns.empty() && read_csv_columns(job)) return true;
  CsvRow row;
  if (!next_csv_row(lines, kLongestJobLine, row)) {
    ended = true;
    return false;
  }
  job.line = row.line;
  LineBuilder build(job);
  read_csv_row(row, columns, column_names, job, build);
  finish(job, build);
  return true;
}

// Reads on to the next job; false where there is none (now, if it does not wait).
bool JobReader::State::read_line(bool wait) {
  while (!pending && !ended) {
    if (!wait && !lines.is_ready()) return false;
    JobLine job;
    if (is_csv ? read_csv(job) : read_text_line(job)) pending = std::move(job);
  }
  return pending.has_value();
}

JobReader::JobReader(const fs::path& file, JobFileOptions options) {
  if (!options.folder) options.folder = file.parent_path();
  const int fd = open_job_file(file);
  state_ = std::make_unique<State>(fd, /*owned=*/true, file.string(), ends_in_csv(file), std::move(options));
}

JobReader::JobReader(int fd, std::string name, JobFileOptions options) {
  if (!options.folder) options.folder.emplace();
  state_ = std::make_unique<State>(fd, /*owned=*/false, std::move(name), /*is_csv=*/false, std::move(options));
}

JobReader::~JobReader() = default;
JobReader::JobReader(JobReader&&) noexcept = default;

std::optional<JobLine> JobReader::next() {
  if (!state_->read_line(/*wait=*/true)) return std::nullopt;
  std::optional<JobLine> job = std::move(state_->pending);
  state_->pending.reset();
  return job;
}

bool JobReader::is_ready() { return state_->read_line(/*wait=*/false) || state_->ended; }

int64_t JobReader::jobs() const { return state_->jobs; }
int64_t JobReader::lines() const { return state_->lines.number(); }
std::string JobReader::place_of(int64_t line) const { return state_->name + ":" + std::to_string(line) + ": "; }

}  // namespace easel
