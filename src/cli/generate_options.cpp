#include "cli/generate_options.h"

#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "cli/arguments.h"
#include "cli/generate_help.h"
#include "cli/request_options.h"
#include "cli/run_options.h"

namespace easel::cli {

namespace {

constexpr int64_t kMostPictures = 1'000'000;  // of one prompt
constexpr int64_t kLargestBatch = 1024;

struct Options {
  RequestOptions request;
  MessageFlags messages;
  OutputFlags output;
  CLI::Option *batch_count, *batch_size, *deterministic, *trajectory, *trajectory_every, *grid, *skip_save;
  CLI::Option *from_file, *keep_going, *unordered, *wildcards, *wildcard_dir, *sweep, *resume, *manifest, *shard,
      *expect, *tolerance, *junit;
};

void add_batch_options(CLI::App& app, Options& o) {
  o.from_file =
      add_text(app, "--from-file", "FILE",
               "jobs, a line each: prompts with flags, JSON objects or CSV; '-' reads standard input", kBatchGroup);
  o.keep_going = add_switch(app, "--keep-going", "draw the good lines of a file that has bad ones", kBatchGroup);
  o.sweep = add_text(app, "--sweep", "NAME=A,B,...",
                     "draw every job with each value; repeatable, for every combination", kBatchGroup);
  o.wildcards = add_switch(app, "--wildcards",
                           "choose at {a|b|c} and __name__ in prompts of the command line too (in job files always)",
                           kBatchGroup);
  o.wildcard_dir = add_text(app, "--wildcard-dir", "FOLDER", "where name.txt of __name__ is", kBatchGroup);
  o.resume = add_switch(app, "--resume", "go on with a run: what its manifest has and is whole is not drawn again",
                        kBatchGroup);
  o.manifest = add_text(
      app, "--manifest", "FILE",
      "a JSON line for each picture as it is done (default with --resume: manifest.jsonl in --outdir)", kBatchGroup);
  o.shard = add_text(app, "--shard", "I/N",
                     "the I-th of N parts of the jobs, from 0; auto: of a Slurm array, auto/N: of a Kubernetes job",
                     kBatchGroup);
  o.batch_size = add_text(app, "--batch-size", "N",
                          "pictures that go through the network at once (default: auto, measured)", kBatchGroup);
  o.unordered =
      add_switch(app, "--unordered", "tell results as they are done, not in the order of the jobs", kBatchGroup);
  o.grid = add_text(app, "--grid", "FILE", "a labelled sheet of all pictures beside them", kBatchGroup);
  o.skip_save = add_switch(app, "--skip-save", "write no pictures, for measuring", kBatchGroup);
}

Options add_options(CLI::App& app) {
  Options o = {};
  o.request = add_request_options(app);
  o.batch_count = add_text(app, "-b,--batch-count", "N",
                           "pictures of each prompt, with seeds S, S+1, ... restarting for every prompt (default: 1)",
                           kPictureGroup);
  add_batch_options(app, o);
  o.output = add_output_options(app);
  o.trajectory = add_text(app, "--trajectory", "FILE",
                          "a strip of the way from noise: x_t above, the picture it was taken for below", kOutputGroup);
  o.trajectory_every =
      add_text(app, "--trajectory-every", "N", "show every N-th network call of it (default: 1)", kOutputGroup);
  o.expect =
      add_text(app, "--expect", "PNG", "the picture that must come out; exit code 6 if it does not", kCheckGroup);
  o.tolerance = add_text(app, "--tolerance", "N",
                         "how far an 8-bit value may be from it (default: 1, which another processor's rounding needs)",
                         kCheckGroup);
  o.junit = add_text(app, "--junit", "FILE", "a JUnit report, a test case for each picture", kCheckGroup);
  o.messages = add_message_options(app);
  o.deterministic = add_switch(app, "--deterministic",
                               "the same bits whatever the batch: one picture at a time on one thread", kModelGroup);
  app.set_version_flag("--version", "easel " EASEL_VERSION " (libtorch " TORCH_VERSION ")", "the program's version")
      ->group(kMessageGroup);
  return o;
}

// EASEL_MODEL, else the bundled model, where -m does not say it.
void choose_model(GenerateOptions& out, Faults& faults) {
  const char* variable = std::getenv("EASEL_MODEL");
  out.default_model = variable != nullptr && *variable != '\0' ? variable : kBundledModel;
  if (out.flags.model) return;
  if (out.default_model == kBundledModel) {
    out.model_note = "model: " + out.default_model + ", the bundled one; -m chooses another";
  } else {
    Request checked;
    set_from_text(checked, *find_request_field("model"), out.default_model, "EASEL_MODEL", faults);
    out.model_note = "model: " + out.default_model + " (EASEL_MODEL)";
  }
}

void read_prompts(const RequestField& field, const CLI::Option& option, GenerateOptions& out, Faults& faults) {
  const std::vector<std::string>& values = option.results();
  if (out.from_file) {
    if (!values.empty()) faults.add("--from-file: the prompts are in the file, and the command line has one too");
    return;
  }
  if (values.empty() && draws_without_prompt(find_model(out.flags.model.value_or(out.default_model)))) {
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
  read_request_options(options.request, {"prompt", "init_img"}, out.flags, faults);
  read_init_imgs(*find_request_field("init_img"), option_of(options.request, "init_img"), out, faults);
  choose_model(out, faults);
  // At the end: whether there must be a prompt depends on the model.
  read_prompts(*find_request_field("prompt"), option_of(options.request, "prompt"), out, faults);
}

void read_sweeps(const CLI::Option& option, GenerateOptions& out, Faults& faults) {
  for (const std::string& text : option.results()) out.sweep.add(text, spelling_of(option), faults);
}

void read_wildcards(const Options& options, GenerateOptions& out, Faults& faults) {
  const std::optional<std::string> folder = value_of(*options.wildcard_dir, faults);
  const bool wanted = options.wildcards->count() > 0;
  if (folder && !wanted && !out.from_file)
    faults.add("--wildcard-dir has no effect without --wildcards or --from-file");
  if (wanted && out.from_file) faults.add("--wildcards has no effect with --from-file: they are always on there");
  if (!wanted && !out.from_file) return;
  out.wildcards =
      std::make_shared<WildcardSource>(folder ? std::optional<std::filesystem::path>(*folder) : std::nullopt);
}

void read_manifest(const Options& options, GenerateOptions& out, Faults& faults) {
  out.resume = options.resume->count() > 0;
  if (const auto file = value_of(*options.manifest, faults)) {
    out.manifest = *file;
    if (file->empty()) faults.add("--manifest: the name is empty");
  } else if (out.resume) {
    out.manifest = std::filesystem::path(out.output.files.outdir.value_or("")) / "manifest.jsonl";
  }
  if (out.manifest && out.output.to_standard_output) faults.add("a manifest has no effect with -o -");
  if (out.manifest && out.skip_save) faults.add("--skip-save: a manifest tells of pictures that were written");
  if (const auto text = value_of(*options.shard, faults))
    out.shard = parse_shard(*text, spelling_of(*options.shard), process_environment(), faults);
  if (out.shard && !out.flags.seed) faults.add("--shard wants -s: the parts of one run must draw from the same seed");
  out.output.files.resumable = out.manifest.has_value() || out.shard.has_value();
}

void read_expectations(const Options& options, GenerateOptions& out, Faults& faults) {
  constexpr int64_t kLargestDifference = 255;
  out.expect = value_of(*options.expect, faults);
  const auto tolerance = whole_number_of(*options.tolerance, 0, kLargestDifference, faults);
  out.tolerance = static_cast<int>(tolerance.value_or(kRoundingTolerance));
  if (tolerance && !out.expect) faults.add("--tolerance has no effect without --expect");
  out.junit = value_of(*options.junit, faults);
  for (const auto& [name, flag] : {std::pair{&out.expect, "--expect"}, {&out.junit, "--junit"}}) {
    if (*name && (*name)->empty()) faults.add(std::string(flag) + ": the name is empty");
    if (*name && out.output.dry_run) faults.add(std::string(flag) + " has no effect with --dry-run");
  }
}

void read_batch(const Options& options, GenerateOptions& out, Faults& faults) {
  out.keep_going = options.keep_going->count() > 0;
  out.unordered = options.unordered->count() > 0;
  out.skip_save = options.skip_save->count() > 0;
  out.deterministic = options.deterministic->count() > 0;
  out.batch_count = whole_number_of(*options.batch_count, 1, kMostPictures, faults).value_or(1);
  const std::vector<std::string>& size = options.batch_size->results();
  if (size.size() != 1 || size.front() != "auto")
    out.batch_size = whole_number_of(*options.batch_size, 1, kLargestBatch, faults);
  if (out.keep_going && !out.from_file) faults.add("--keep-going has no effect without --from-file");
  if (out.deterministic && out.messages.threads > 1)
    faults.add("--threads has no effect with --deterministic: one thread");
  out.grid = value_of(*options.grid, faults);
  std::error_code error;
  if (out.grid && out.grid->empty()) faults.add("--grid: the name is empty");
  if (out.grid && !out.output.files.overwrite && std::filesystem::exists(*out.grid, error))
    faults.add("--grid: " + *out.grid + " exists: --overwrite replaces it");
}

void read_trajectory(const Options& options, GenerateOptions& out, Faults& faults) {
  out.trajectory = value_of(*options.trajectory, faults);
  const auto every = whole_number_of(*options.trajectory_every, 1, 1000, faults);
  out.trajectory_every = every.value_or(1);
  std::error_code error;
  if (every && !out.trajectory) faults.add("--trajectory-every has no effect without --trajectory");
  if (!out.trajectory) return;
  if (out.trajectory->empty()) faults.add("--trajectory: the name is empty");
  if (out.output.dry_run) faults.add("--trajectory has no effect with --dry-run");
  if (std::filesystem::exists(*out.trajectory, error))
    faults.add("--trajectory: " + *out.trajectory + " exists; choose another name");
}

}  // namespace

std::optional<GenerateOptions> read_generate_options(const Arguments& arguments, Faults& faults) {
  CLI::App app(kDescription, "easel");
  app.formatter(help_formatter());
  app.footer(help_footer());
  const Options options = add_options(app);
  if (!parse(app, arguments, "-p", faults)) return std::nullopt;

  GenerateOptions out;
  out.messages = read_message_options(options.messages, faults);
  out.output = read_output_options(options.output, out.messages.json, faults);
  out.from_file = value_of(*options.from_file, faults);
  if (out.from_file && out.from_file->empty()) faults.add("--from-file: the name is empty");
  read_batch(options, out, faults);
  read_expectations(options, out, faults);
  read_sweeps(*options.sweep, out, faults);
  read_wildcards(options, out, faults);
  read_trajectory(options, out, faults);
  read_request(options, out, faults);
  read_manifest(options, out, faults);
  if (out.deterministic && out.batch_size.value_or(1) > 1) {
    const std::string text = "--batch-size has no effect with --deterministic: one picture at a time";
    if (out.is_batch())
      log::note(text);
    else
      faults.add(text);
  }
  if (faults.empty() && !out.model_note.empty()) log::note(out.model_note);
  return out;
}

}  // namespace easel::cli
