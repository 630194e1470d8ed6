#include "cli/generate_options.h"

#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "cli/arguments.h"
#include "cli/generate_help.h"
#include "cli/request_options.h"

namespace easel::cli {

namespace {

constexpr int64_t kMostPictures = 1'000'000;  // of one prompt
constexpr int64_t kMostThreads = 1024;

constexpr const char* kOutputHelp =
    "file name, with {index} {seed} {prompt:40} {sampler} {model} filled in; '-' writes one PNG to standard output "
    "(default: {index}-{seed}.png at the next free index)";

struct Options {
  RequestOptions request;
  CLI::Option *batch_count, *output, *outdir, *threads, *progress, *trajectory, *trajectory_every;
  CLI::Option *json, *quiet, *verbose, *dry_run, *overwrite, *no_metadata;
};

Options add_options(CLI::App& app) {
  Options o = {};
  o.request = add_request_options(app);
  o.batch_count = add_text(app, "-b,--batch-count", "N",
                           "pictures of each prompt, with seeds S, S+1, ... restarting for every prompt (default: 1)",
                           kPictureGroup);
  o.output = add_text(app, "-o,--output", "NAME", kOutputHelp, kOutputGroup);
  o.outdir = add_text(app, "--outdir", "FOLDER", "where pictures go, made if missing (default: here)", kOutputGroup);
  o.overwrite = add_switch(app, "--overwrite", "-o may replace files", kOutputGroup);
  o.no_metadata = add_switch(app, "--disable-image-metadata", "leave the settings out of the PNG", kOutputGroup);
  o.trajectory = add_text(app, "--trajectory", "FILE",
                          "a strip of the way from noise: x_t above, the picture it was taken for below", kOutputGroup);
  o.trajectory_every =
      add_text(app, "--trajectory-every", "N", "show every N-th network call of it (default: 1)", kOutputGroup);
  o.threads = add_text(app, "-t,--threads", "N", "processor threads (default: one a core)", kModelGroup);
  o.json = add_switch(app, "--json", "one JSON object a picture on standard output, not its path", kMessageGroup);
  o.progress =
      add_text(app, "--progress", "auto|bar|json|none",
               "on standard error; json: lines {\"event\": ...} (default: auto, a bar on a terminal)", kMessageGroup);
  o.quiet = add_switch(app, "-q,--quiet", "errors only", kMessageGroup);
  o.verbose = add_switch(app, "-v,--verbose", "say more", kMessageGroup);
  o.dry_run = add_switch(app, "--dry-run", "print each resolved request as a JSON object and stop", kMessageGroup);
  app.set_help_flag("-h,--help", "this text")->group(kMessageGroup);
  app.set_version_flag("--version", "easel " EASEL_VERSION " (libtorch " TORCH_VERSION ")", "the program's version")
      ->group(kMessageGroup);
  return o;
}

// -m, else EASEL_MODEL, else the bundled model.
void choose_model(GenerateOptions& out, Faults& faults) {
  if (out.common.model) return;
  const char* variable = std::getenv("EASEL_MODEL");
  if (variable != nullptr && *variable != '\0') {
    set_from_text(out.common, *find_request_field("model"), variable, "EASEL_MODEL", faults);
    out.model_note = "model: " + std::string(variable) + " (EASEL_MODEL)";
  } else {
    out.common.model = kBundledModel;
    out.model_note = "model: " + *out.common.model + ", the bundled one; -m chooses another";
  }
}

void read_prompts(const RequestField& field, const CLI::Option& option, GenerateOptions& out, Faults& faults) {
  const std::vector<std::string>& values = option.results();
  if (values.empty() && out.common.model && draws_without_prompt(find_model(*out.common.model))) {
    out.prompts.emplace_back();
    return;
  }
  if (values.empty()) {
    faults.add("no prompt: say what to draw, as in  easel \"a red fox in the snow\"");
  } else if (std::count(values.begin(), values.end(), "-") > 1) {
    faults.add("--prompt -: standard input can be read only once");
    return;
  }
  for (const std::string& value : values) {
    const bool piped = value == "-";
    const std::string text = piped ? read_prompt_from_standard_input() : value;
    const std::string spelled = piped ? "the prompt from standard input" : spelling_of(option);
    Request one;
    set_from_text(one, field, text, spelled, faults);
    if (text.find('\0') != std::string::npos) faults.add(spelled + ": it holds a NUL byte, so it is no text");
    if (one.prompt) out.prompts.push_back(*one.prompt);
  }
}

// Each as a file, a folder or a pattern.
void read_init_imgs(const RequestField& field, const CLI::Option& option, GenerateOptions& out, Faults& faults) {
  for (const std::string& value : option.results()) {
    Request one;
    set_from_text(one, field, value, spelling_of(option), faults);
    if (!one.init_img) continue;
    if (value.empty()) faults.add(spelling_of(option) + ": the name is empty");
    for (std::string& file : picture_files(value, spelling_of(option), faults))
      out.init_imgs.push_back(std::move(file));
  }
}

void read_request(const Options& options, GenerateOptions& out, Faults& faults) {
  read_request_options(options.request, {"prompt", "init_img"}, out.common, faults);
  read_init_imgs(*find_request_field("init_img"), option_of(options.request, "init_img"), out, faults);
  choose_model(out, faults);
  // At the end: whether there must be a prompt depends on the model.
  read_prompts(*find_request_field("prompt"), option_of(options.request, "prompt"), out, faults);
}

// -o - is a place, not a name: what only names and files have does not go with it.
void read_output(const Options& options, GenerateOptions& out, Faults& faults) {
  out.output = {.output = value_of(*options.output, faults),
                .outdir = value_of(*options.outdir, faults),
                .overwrite = options.overwrite->count() > 0};
  out.to_standard_output = out.output.output == "-";
  if (!out.to_standard_output) return;
  const std::string no_effect = " has no effect with -o -";
  if (out.output.outdir) faults.add("--outdir" + no_effect);
  if (out.output.overwrite) faults.add("--overwrite" + no_effect);
  if (out.json) faults.add("--json and -o - both want standard output");
  if (::isatty(STDOUT_FILENO) && !out.dry_run)
    faults.add("-o -: standard output is a terminal; send it to a file or a program");
  out.output = {};
}

void read_trajectory(const Options& options, GenerateOptions& out, Faults& faults) {
  out.trajectory = value_of(*options.trajectory, faults);
  const auto every = whole_number_of(*options.trajectory_every, 1, 1000, faults);
  out.trajectory_every = every.value_or(1);
  std::error_code error;
  if (every && !out.trajectory) faults.add("--trajectory-every has no effect without --trajectory");
  if (!out.trajectory) return;
  if (out.trajectory->empty()) faults.add("--trajectory: the name is empty");
  if (out.dry_run) faults.add("--trajectory has no effect with --dry-run");
  if (std::filesystem::exists(*out.trajectory, error))
    faults.add("--trajectory: " + *out.trajectory + " exists; choose another name");
}

ProgressStyle read_progress(const CLI::Option& option, Faults& faults) {
  using Row = std::pair<const char*, ProgressStyle>;
  constexpr std::array kStyles = {Row{"auto", ProgressStyle::kAuto}, Row{"bar", ProgressStyle::kBar},
                                  Row{"json", ProgressStyle::kJson}, Row{"none", ProgressStyle::kNone}};
  const std::optional<std::string> word = value_of(option, faults);
  if (!word) return ProgressStyle::kAuto;
  const auto row = std::find_if(kStyles.begin(), kStyles.end(), [&](const Row& r) { return r.first == *word; });
  if (row != kStyles.end()) return row->second;
  faults.add(spelling_of(option) + " '" + *word + "': expected auto, bar, json or none");
  return ProgressStyle::kAuto;
}

void read_log_level(const Options& options, Faults& faults) {
  const bool quiet = options.quiet->count() > 0, verbose = options.verbose->count() > 0;
  if (quiet && verbose) faults.add("--quiet and --verbose exclude each other");
  log::set_level(quiet ? log::Level::kQuiet : verbose ? log::Level::kVerbose : log::Level::kNormal);
}

}  // namespace

std::optional<GenerateOptions> read_generate_options(const Arguments& arguments, Faults& faults) {
  CLI::App app(kDescription, "easel");
  app.formatter(help_formatter());
  app.footer(help_footer());
  const Options options = add_options(app);
  if (!parse(app, arguments, "-p", faults)) return std::nullopt;

  GenerateOptions out;
  read_log_level(options, faults);
  out.json = options.json->count() > 0;
  out.dry_run = options.dry_run->count() > 0;
  out.image_metadata = options.no_metadata->count() == 0;
  out.progress = read_progress(*options.progress, faults);
  out.batch_count = whole_number_of(*options.batch_count, 1, kMostPictures, faults).value_or(1);
  out.threads = static_cast<int>(whole_number_of(*options.threads, 1, kMostThreads, faults).value_or(0));
  read_output(options, out, faults);
  read_trajectory(options, out, faults);
  read_request(options, out, faults);
  if (faults.empty() && !out.model_note.empty()) log::note(out.model_note);
  return out;
}

}  // namespace easel::cli
