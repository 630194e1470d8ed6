// easel generate: options → jobs → models → pictures.
#include "cli/batch_run.h"
#include "cli/results.h"

namespace easel::cli {

namespace {

void check_single_pictures(const GenerateOptions& options, const JobSource& source, Faults& faults) {
  const int64_t pictures = source.pictures();
  const std::string so_many = pictures < 0 ? "nobody knows how many come" : "these are " + std::to_string(pictures);
  if (options.output.to_standard_output && pictures != 1)
    faults.add("-o -: standard output takes one picture, " + so_many);
  if (options.trajectory && pictures != 1) faults.add("--trajectory: a strip shows one picture's way, " + so_many);
  constexpr int64_t kLargestGrid = 2500;
  if (options.grid && (pictures < 0 || pictures > kLargestGrid))
    faults.add("--grid: a sheet holds up to " + std::to_string(kLargestGrid) + " pictures, " + so_many);
}

void check_manifest(const GenerateOptions& options, Faults& faults) {
  std::error_code error;
  if (options.manifest && !options.resume && std::filesystem::exists(*options.manifest, error))
    faults.add("--manifest: " + options.manifest->string() + " exists: --resume goes on with its run");
}

void tell_assumed_prediction(const Request& flags, const Checkpoint& checkpoint) {
  const FileIdentity& id = checkpoint.identity;
  if (id.prediction_assumed && !flags.prediction)
    log::note("prediction " + id.prediction + ", " + id.prediction_reason + "; --prediction says otherwise");
}

int print_requests(const GenerateOptions& options, const JobSource& source, ModelsInUse& models) {
  JobStream jobs = source.stream();
  int64_t bad_lines = 0;
  for (JobEvent event = jobs.next(); event.kind != JobEvent::Kind::kEnd; event = jobs.next()) {
    if (event.kind == JobEvent::Kind::kBadLine) {
      if (!options.keep_going) throw Error(ErrorKind::kUsage, event.faults, "--keep-going leaves bad lines out");
      for (const std::string& fault : event.faults) log::error(fault);
      ++bad_lines;
    }
    if (event.kind != JobEvent::Kind::kPicture) continue;
    Request request = event.picture.request;
    if (!request.model) request.model = options.default_model;
    if (!request.prompt) request.prompt = "";
    std::vector<std::string> notes;
    const bool lenient = options.from_file || options.sweep.size() > 1;
    print_line(
        job_json(resolve(request, models.open(request), precision_of(request), lenient ? &notes : nullptr)).dump());
  }
  return bad_lines > 0 ? static_cast<int>(ErrorKind::kPicture) : 0;
}

// The model that all pictures share, or most of them: opened first, so that a wrong one ends the run at once.
const Checkpoint& open_first(const GenerateOptions& options, ModelsInUse& models) {
  Request request = options.flags;
  if (!request.model) request.model = options.default_model;
  return models.open(request);
}

// The names of the command line's pictures, with what only the checkpoint says.
std::vector<NameFacts> facts_of(const GenerateOptions& options, const JobSource& source, const Checkpoint* checkpoint) {
  if (options.from_file || options.output.to_standard_output || options.skip_save) return {};
  std::vector<NameFacts> facts = source.name_facts();
  if (checkpoint == nullptr) return facts;
  for (NameFacts& one : facts) {
    one.model = checkpoint->name();
    one.sampler = options.flags.sampler ? choose_sampler(*options.flags.sampler).sampler.name
                                        : checkpoint->own_defaults.sampler.value_or("");
  }
  return facts;
}

}  // namespace

int generate(const Arguments& arguments) {
  Faults faults;
  const std::optional<GenerateOptions> options = read_generate_options(arguments, faults);
  if (!options) return 0;
  set_threads(options->deterministic ? 1 : options->messages.threads);
  check_words(options->flags, faults);
  check_manifest(*options, faults);
  if (!faults.empty()) faults.raise_if_any(ErrorKind::kUsage, "see 'easel --help'");

  const JobSource source(*options, faults);
  const bool no_files = options->output.to_standard_output || options->skip_save;
  Outputs outputs(options->output.files, no_files ? 0 : source.pictures() < 0 ? 2 : source.pictures(), faults);
  check_single_pictures(*options, source, faults);
  const bool early = !outputs.needs_checkpoint();
  if (early) outputs.check_targets(facts_of(*options, source, nullptr), faults);
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel --help'");

  ModelsInUse models;
  const Checkpoint& checkpoint = open_first(*options, models);
  tell_assumed_prediction(options->flags, checkpoint);
  const std::vector<NameFacts> facts = facts_of(*options, source, &checkpoint);
  if (!early) outputs.check_targets(facts, faults);
  faults.raise_if_any(ErrorKind::kUsage);

  source.tell_seeds();
  if (options->output.dry_run) return print_requests(*options, source, models);
  if (!no_files) outputs.prepare(facts);
  return BatchRun(*options, source, models, outputs).run();
}

}  // namespace easel::cli
