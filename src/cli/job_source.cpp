#include "cli/job_source.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "cli/results.h"

namespace easel::cli {

namespace {

// The base seed of the run that is resumed.
std::optional<uint64_t> recorded_seed(const GenerateOptions& options) {
  std::error_code error;
  if (!options.resume || !std::filesystem::exists(*options.manifest, error)) return std::nullopt;
  return ManifestReader(*options.manifest).header().base_seed;
}

// Standard input, or what can be read only once: a named pipe, a shell's <(…).
bool is_live_file(const std::optional<std::string>& file) {
  std::error_code error;
  return file && (*file == "-" || std::filesystem::is_fifo(*file, error));
}

}  // namespace

JobSource::JobSource(const GenerateOptions& options, Faults& faults)
    : options_(options), is_live_(is_live_file(options.from_file)) {
  const std::optional<uint64_t> known = options.flags.seed ? options.flags.seed : recorded_seed(options);
  seed_is_known_ = known.has_value();
  base_seed_ = known ? *known : random_seed();
  // A run that can be resumed has one seed; otherwise each prompt gets its own.
  for (std::size_t i = 0; i < options.prompts.size(); ++i)
    seeds_.push_back(known || options.manifest || i == 0 ? base_seed_ : random_seed());
  if (!options.from_file) {
    write_lines(faults);
  } else if (!is_live()) {
    check_file(faults);
  }
}

JobSource::~JobSource() {
  if (lines_ >= 0) ::close(lines_);
}

void JobSource::write_lines(Faults& faults) {
  if (options_.flags.seed &&
      static_cast<uint64_t>(options_.batch_count - 1) > std::numeric_limits<uint64_t>::max() - *options_.flags.seed) {
    faults.add("--seed " + std::to_string(*options_.flags.seed) + " with --batch-count " +
               std::to_string(options_.batch_count) + ": the last seed would be past 18446744073709551615");
    return;
  }
  lines_ = ::memfd_create("jobs", MFD_CLOEXEC);
  if (lines_ < 0) throw Error(ErrorKind::kInternal, "memfd_create: " + std::generic_category().message(errno));
  const std::size_t pictures = std::max<std::size_t>(1, options_.init_imgs.size());
  for (std::size_t i = 0; i < options_.prompts.size(); ++i) {
    for (std::size_t k = 0; k < pictures; ++k) {
      json job = {{"prompt", options_.prompts[i]}, {"seed", seeds_[i]}};
      if (!options_.init_imgs.empty()) job["init_img"] = options_.init_imgs[k];
      // JSON lines begin with {" and texts may be anything but invalid UTF-8, which was refused.
      write_to_descriptor(lines_, job.dump() + "\n", "the jobs");
    }
  }
  pictures_ = static_cast<int64_t>(options_.prompts.size() * pictures) * options_.batch_count * options_.sweep.size();
}

void JobSource::check_file(Faults& faults) {
  const JobCheck check = check_jobs(*options_.from_file, {}, job_options());
  if (!options_.keep_going) check.add_to(faults, *options_.from_file);
  if (check.jobs == 0) faults.add(*options_.from_file + ": there is no job in it");
  pictures_ = check.pictures;
}

JobOptions JobSource::job_options() const {
  JobOptions jobs;
  jobs.flags = options_.flags;
  jobs.base_seed = base_seed_;
  jobs.batch_count = options_.batch_count;
  jobs.sweep = options_.sweep;
  jobs.shard = options_.shard.value_or(Shard{});
  jobs.wildcards = options_.wildcards;
  jobs.check = [this, unconditional = std::map<std::string, bool>()](const Request& r, Faults& faults) mutable {
    check_words(r, faults);
    if (r.prompt) return;
    const std::string model = r.model.value_or(options_.default_model);
    const auto known = unconditional.find(model);
    const bool draws = known != unconditional.end()
                           ? known->second
                           : unconditional.emplace(model, draws_without_prompt(find_model(model))).first->second;
    if (!draws) faults.add("no prompt");
  };
  return jobs;
}

JobStream JobSource::stream(bool all_shards) const {
  JobOptions jobs = job_options();
  if (all_shards) jobs.shard = {};
  if (!options_.from_file) {
    ::lseek(lines_, 0, SEEK_SET);
    return JobStream(JobReader(lines_, "command line", {.folder = ""}), std::move(jobs));
  }
  if (*options_.from_file == "-")
    return JobStream(JobReader(STDIN_FILENO, "stdin", {.commands = true}), std::move(jobs));
  const JobFileOptions how = is_live_ ? JobFileOptions{.folder = "", .commands = true} : JobFileOptions{};
  return JobStream(JobReader(std::filesystem::path(*options_.from_file), how), std::move(jobs));
}

std::string JobSource::place_of(const JobPicture& picture) const {
  return options_.from_file ? *options_.from_file + ":" + std::to_string(picture.line) + ": " : "";
}

void JobSource::tell_seeds() const {
  if (seed_is_known_) return;
  if (options_.from_file) {
    log::note("seeds from " + std::to_string(base_seed_) + " on where lines have none, drawn at random; -s repeats it");
    return;
  }
  const std::size_t told = options_.manifest ? 1 : seeds_.size();
  for (std::size_t i = 0; i < told; ++i) {
    const std::string which = told > 1 ? " for " + json(options_.prompts[i]).dump() : "";
    log::note("seed " + std::to_string(seeds_[i]) + which + ", drawn at random; -s repeats it");
  }
}

}  // namespace easel::cli
