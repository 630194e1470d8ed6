// easel augment: seeded variations of labelled pictures, as a job file that generate draws.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <random>

#include "cli/arguments.h"
#include "cli/generate_help.h"
#include "cli/labelled_pictures.h"
#include "cli/request_options.h"
#include "cli/results.h"
#include "cli/run_options.h"

namespace easel::cli {

namespace fs = std::filesystem;

namespace {

constexpr const char* kDescription =
    "Draws variations of labelled pictures by image-to-image: DIR holds a folder for each class, or --labels says "
    "which "
    "picture has which label. They go to OUT/LABEL/, with the jobs in OUT/jobs.jsonl. A picture that cannot be read is "
    "named and left out (exit code 5). Options that generate has (-m, -s, --steps, --resume, --shard, ...) go on to "
    "it.";
constexpr const char* kGroup = "The variations";

// Options of generate that are handed on as they are. Not those of the table that augment says itself.
constexpr std::array kTexts = {"--batch-size", "--shard", "--manifest", "-t,--threads", "--kernels", "--progress"};
constexpr std::array kSwitches = {
    "--resume", "--unordered", "--deterministic", "--overwrite", "--disable-image-metadata",
    "--json",   "-q,--quiet",  "-v,--verbose"};

bool is_handed_on(const RequestField& field) {
  static const std::set<std::string> kOwn = {
      "prompt",    "init_img",         "strength",        "seed",          "mask",    "invert_mask",
      "mask_blur", "inpaint_full_res", "inpaint_padding", "no_paste_back", "outpaint"};
  return !field.flags.empty() && !kOwn.contains(field.name);
}

// -n is the number of variations here.
std::string flags_here(const RequestField& field) {
  return field.name == "negative_prompt" ? "--negative-prompt" : field.flags;
}

struct AugmentOptions {
  fs::path folder, outdir;
  std::optional<fs::path> labels;
  std::vector<std::string> templates = {"a photo of a {label}"};
  int64_t variations = 4;
  double least = 0.3, most = 0.6;  // strength
  std::optional<uint64_t> seed;
  bool dry_run = false, resize_is_given = false;
  Arguments handed_on;
};

// "0.3..0.6", "0.5".
std::optional<std::pair<double, double>> range_of(std::string_view text) {
  const auto number = [](std::string_view word) -> std::optional<double> {
    double value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size() || !(value > 0 && value <= 1)) return std::nullopt;
    return value;
  };
  const std::size_t dots = text.find("..");
  const auto least = number(text.substr(0, dots));
  const auto most = dots == std::string_view::npos ? least : number(text.substr(dots + 2));
  if (!least || !most || *least > *most) return std::nullopt;
  return std::pair(*least, *most);
}

struct Flags {
  CLI::Option *folder, *outdir, *labels, *variations, *strength, *templates, *seed, *dry_run;
  std::vector<std::pair<std::string, CLI::Option*>> texts, lists, switches;
};

Flags add_flags(CLI::App& app) {
  Flags f = {};
  f.folder = add_text(app, "--dir", "DIR", "the labelled pictures; the bare argument", kGroup);
  f.outdir = add_text(app, "--outdir", "OUT", "where the variations go, made if missing", kGroup);
  f.labels =
      add_text(app, "--labels", "FILE",
               "CSV or JSON lines with path and label, paths from DIR (default: the folders are the labels)", kGroup);
  f.variations = add_text(app, "-n,--variations", "K", "of each picture (default: 4)", kGroup);
  f.strength = add_text(app, "--strength", "A..B", "drawn evenly between the two (default: 0.3..0.6)", kGroup);
  f.templates = add_text(app, "--template", "TEXT",
                         "the prompt, {label} filled in; of several each variation takes the next (default: \"a photo "
                         "of a {label}\")",
                         kGroup);
  f.seed =
      add_text(app, "-s,--seed", "N", "of the first variation; each has the next (default: random, printed)", kGroup);
  f.dry_run = add_switch(app, "--dry-run", "print the jobs and stop", kMessageGroup);
  for (const RequestField& field : request_fields()) {
    if (!is_handed_on(field)) continue;
    if (field.is_switch())
      f.switches.emplace_back(flags_here(field), add_switch(app, flags_here(field), field.help, group_of(field)));
    else
      (field.is_list() ? f.lists : f.texts)
          .emplace_back(flags_here(field),
                        add_text(app, flags_here(field), field.value_name, field.help, group_of(field)));
  }
  for (const char* flag : kTexts) f.texts.emplace_back(flag, add_text(app, flag, "X", "as of generate", kBatchGroup));
  for (const char* flag : kSwitches)
    f.switches.emplace_back(flag, add_switch(app, flag, "as of generate", kBatchGroup));
  app.set_help_flag("-h,--help", "this text")->group(kMessageGroup);
  return f;
}

Arguments handed_on(const Flags& flags, Faults& faults) {
  Arguments arguments;
  for (const auto& [name, option] : flags.texts) {
    if (const auto text = value_of(*option, faults)) arguments.insert(arguments.end(), {spelling_of(*option), *text});
  }
  for (const auto& [name, option] : flags.lists) {
    for (const std::string& text : option->results()) arguments.insert(arguments.end(), {spelling_of(*option), text});
  }
  for (const auto& [name, option] : flags.switches) {
    if (option->count() > 0) arguments.push_back(spelling_of(*option));
  }
  return arguments;
}

std::optional<AugmentOptions> read_options(const Arguments& arguments, Faults& faults) {
  CLI::App app(kDescription, "easel augment");
  app.formatter(help_formatter_of("easel augment DIR --outdir OUT [options]"));
  const Flags flags = add_flags(app);
  if (!parse(app, arguments, "--dir", faults)) return std::nullopt;
  AugmentOptions out;
  out.handed_on = handed_on(flags, faults);
  out.dry_run = flags.dry_run->count() > 0;
  out.resize_is_given = std::find(out.handed_on.begin(), out.handed_on.end(), "--resize") != out.handed_on.end();
  if (const auto text = value_of(*flags.folder, faults))
    out.folder = *text;
  else
    faults.add("no folder: say where the labelled pictures are, as in  easel augment photos --outdir more");
  if (const auto text = value_of(*flags.outdir, faults))
    out.outdir = *text;
  else
    faults.add("--outdir is missing: variations go into a folder of their own");
  if (const auto text = value_of(*flags.labels, faults)) out.labels = *text;
  if (!flags.templates->results().empty()) out.templates = flags.templates->results();
  out.variations = whole_number_of(*flags.variations, 1, 10000, faults).value_or(out.variations);
  if (const auto text = value_of(*flags.strength, faults)) {
    const auto range = range_of(*text);
    if (range) std::tie(out.least, out.most) = *range;
    if (!range) faults.add("--strength '" + *text + "': expected one or two rising numbers above 0 to 1, as 0.3..0.6");
  }
  Request r;
  if (const auto text = value_of(*flags.seed, faults))
    set_from_text(r, *find_request_field("seed"), *text, "--seed", faults);
  out.seed = r.seed;
  const bool resumes = std::find(out.handed_on.begin(), out.handed_on.end(), "--resume") != out.handed_on.end();
  const bool shard = std::find(out.handed_on.begin(), out.handed_on.end(), "--shard") != out.handed_on.end();
  if ((resumes || shard) && !out.seed) faults.add("-s is missing: --resume and --shard go on with the same seeds");
  return out;
}

std::string filled(std::string text, const std::string& label) {
  constexpr std::string_view kField = "{label}";
  for (std::size_t at = 0; (at = text.find(kField, at)) != std::string::npos; at += label.size())
    text.replace(at, kField.size(), label);
  return text;
}

// The k-th of all variations.
nlohmann::ordered_json job_of(const LabelledPicture& picture, int64_t k, const AugmentOptions& o) {
  constexpr int64_t kMultiple = 8;
  const uint64_t seed = *o.seed + static_cast<uint64_t>(k);
  std::mt19937_64 random(seed);
  const double share = static_cast<double>(random() >> 11) / 9007199254740992.0;  // 2^53
  const std::string name = picture.label + "/" + picture.name + "-" + std::to_string(k % o.variations);
  nlohmann::ordered_json job = {
      {"prompt", filled(o.templates[static_cast<std::size_t>(k) % o.templates.size()], picture.label)},
      {"init_img", fs::absolute(picture.file).string()},
      {"strength", std::round((o.least + share * (o.most - o.least)) * 1e4) / 1e4},
      {"seed", seed},
      {"output", name + ".png"},
      {"id", name},
      {"wildcards", false}};
  const bool fits = picture.width % kMultiple == 0 && picture.height % kMultiple == 0;
  if (!fits && !o.resize_is_given) job["resize"] = "fill";
  return job;
}

}  // namespace

int augment(const Arguments& arguments) {
  Faults faults;
  std::optional<AugmentOptions> options = read_options(arguments, faults);
  if (!options) return 0;
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel augment --help'");
  const LabelledPictures found = labelled_pictures(options->folder, options->labels);
  for (const std::string& fault : found.unreadable) log::error(fault);
  if (found.pictures.empty())
    throw Error(ErrorKind::kFile, options->folder.string() + ": no picture with a label in it",
                "DIR/LABEL/picture.png, or --labels with a line for each picture");
  if (!options->seed) {
    options->seed = random_seed();
    log::note("seed " + std::to_string(*options->seed) + ", drawn at random; -s repeats it");
  }
  std::string jobs;
  int64_t k = 0;
  for (const LabelledPicture& picture : found.pictures) {
    for (int64_t i = 0; i < options->variations; ++i) jobs += job_of(picture, k++, *options).dump() + "\n";
  }
  const int code = found.unreadable.empty() ? 0 : static_cast<int>(ErrorKind::kPicture);
  if (options->dry_run) {
    print_text(jobs);
    return code;
  }
  std::error_code error;
  fs::create_directories(options->outdir, error);
  if (error) throw Error(ErrorKind::kFile, "--outdir " + options->outdir.string() + ": " + error.message());
  const fs::path file = options->outdir / "jobs.jsonl";
  write_file_atomically(file, jobs, /*overwrite=*/true);
  log::note(std::to_string(found.pictures.size()) + " pictures of " + std::to_string(found.labels()) + " labels, " +
            std::to_string(k) + " variations");
  Arguments draw = {
      "--from-file", file.string(), "--outdir", options->outdir.string(), "--seed", std::to_string(*options->seed)};
  draw.insert(draw.end(), options->handed_on.begin(), options->handed_on.end());
  return std::max(generate(draw), code);
}

}  // namespace easel::cli
