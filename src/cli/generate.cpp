// easel generate: options → jobs → models → pictures.
#include "cli/batch_run.h"
#include "cli/preflight.h"
#include "cli/results.h"

namespace easel::cli {

namespace {

void check_single_pictures(const GenerateOptions& options, const JobSource& source, Faults& faults) {
  const int64_t pictures = source.pictures();
  const std::string so_many = pictures < 0 ? "nobody knows how many come" : "these are " + std::to_string(pictures);
  if (options.output.to_standard_output && pictures != 1)
    faults.add("-o -: standard output takes one picture, " + so_many);
  if (options.trajectory && pictures != 1) faults.add("--trajectory: a strip shows one picture's way, " + so_many);
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

// --dry-run.
class RequestPrinter {
 public:
  RequestPrinter(const GenerateOptions& options, const JobSource& source, ModelsInUse& models)
      : options_(options), source_(source), models_(models) {}

  // The exit code.
  int run() {
    JobStream jobs = source_.stream();
    for (JobEvent event = jobs.next(); event.kind != JobEvent::Kind::kEnd; event = jobs.next()) {
      if (event.kind == JobEvent::Kind::kBadLine) skip(event);
      if (event.kind == JobEvent::Kind::kPicture) print(event.picture);
    }
    return code_;
  }

 private:
  void skip(const JobEvent& event) {
    if (!options_.keep_going) throw Error(ErrorKind::kUsage, event.faults, "--keep-going leaves bad lines out");
    for (const std::string& fault : event.faults) log::error(fault);
    fail(ErrorKind::kPicture);
  }

  void print(const JobPicture& picture) {
    std::vector<std::string> notes;
    try {
      print_line(job_json(resolved(picture, options_, models_, notes)).dump());
    } catch (const Error& error) {
      if (!options_.is_batch() || !is_of_picture(error)) throw;
      for (const std::string& fault : error.faults()) log::error(source_.place_of(picture) + fault);
      fail(options_.keep_going ? ErrorKind::kPicture : error.kind());
    }
  }

  void fail(ErrorKind kind) {
    const int code = static_cast<int>(kind);
    code_ = code_ == 0 ? code : std::min(code_, code);
  }

  const GenerateOptions& options_;
  const JobSource& source_;
  ModelsInUse& models_;
  int code_ = 0;
};

// The model that all pictures share, or most of them: opened first, so that a wrong one ends the run at once.
const Checkpoint& open_first(const GenerateOptions& options, ModelsInUse& models) {
  Request request = options.flags;
  if (!request.model) request.model = options.default_model;
  return models.open(request);
}

}  // namespace

int generate(const Arguments& arguments) {
  Faults faults;
  const std::optional<GenerateOptions> options = read_generate_options(arguments, faults);
  if (!options) return 0;
  set_kernels(options->messages.kernels);
  set_threads(options->deterministic ? 1 : options->messages.threads);
  check_words(options->flags, faults);
  check_manifest(*options, faults);
  if (options->from_file) faults.raise_if_any(ErrorKind::kUsage, "see 'easel --help'");  // before the file is opened

  const JobSource source(*options, faults);
  const bool writes_files = !options->output.to_standard_output && !options->skip_save;
  Outputs outputs(options->output.files, !writes_files ? 0 : source.pictures() < 0 ? 2 : source.pictures(), faults);
  check_single_pictures(*options, source, faults);
  Preflight preflight(*options, source, outputs);
  if (faults.empty()) preflight.check_names(faults);
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel --help'");

  ModelsInUse models;
  tell_assumed_prediction(options->flags, open_first(*options, models));
  if (!options->output.dry_run) preflight.check_requests(models, faults);
  faults.raise_if_any(ErrorKind::kUsage);

  source.tell_seeds();
  if (options->output.dry_run) return RequestPrinter(*options, source, models).run();
  if (writes_files) outputs.prepare(preflight.one_a_folder());
  return BatchRun(*options, source, models, outputs).run();
}

}  // namespace easel::cli
