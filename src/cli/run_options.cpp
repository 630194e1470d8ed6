#include "cli/run_options.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "cli/arguments.h"
#include "cli/generate_help.h"

namespace easel::cli {

namespace {

constexpr int64_t kMostThreads = 1024;

constexpr const char* kOutputHelp =
    "file name, with {index} {seed} {prompt:40} {sampler} {model} filled in; '-' writes one PNG to standard output "
    "(default: {index}-{seed}.png at the next free index)";

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

Kernels read_kernels(const CLI::Option& option, Faults& faults) {
  const std::string word = value_of(option, faults).value_or("fast");
  if (word != "fast" && word != "plain") faults.add(spelling_of(option) + " '" + word + "': expected fast or plain");
  return word == "plain" ? Kernels::kPlain : Kernels::kFast;
}

void read_log_level(const MessageFlags& flags, Faults& faults) {
  const bool quiet = flags.quiet->count() > 0, verbose = flags.verbose->count() > 0;
  if (quiet && verbose) faults.add("--quiet and --verbose exclude each other");
  log::set_level(quiet ? log::Level::kQuiet : verbose ? log::Level::kVerbose : log::Level::kNormal);
}

template <typename Check>
void collect_usage_faults(Faults& faults, const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) return;  // it comes again when it is that turn
    for (const std::string& fault : error.faults())
      faults.add(fault + (error.hint().empty() ? "" : " (" + error.hint() + ")"));
  }
}

class CommandFormatter : public CLI::Formatter {
 public:
  explicit CommandFormatter(std::string usage) : usage_(std::move(usage)) {}

  std::string make_usage(const CLI::App*, std::string) const override { return "Usage: " + usage_ + "\n\n"; }
  std::string make_group(std::string group, bool is_positional,
                         std::vector<const CLI::Option*> options) const override {
    return options_->make_group(std::move(group), is_positional, std::move(options));
  }

 private:
  const std::string usage_;
  const std::shared_ptr<CLI::Formatter> options_ = help_formatter();
};

}  // namespace

MessageFlags add_message_options(CLI::App& app) {
  MessageFlags flags = {};
  flags.threads = add_text(app, "-t,--threads", "N", "processor threads (default: one a core)", kModelGroup);
  flags.kernels =
      add_text(app, "--kernels", "fast|plain",
               "on the processor: easel's own and packed weights, or libtorch's (default: fast)", kModelGroup);
  flags.json = add_switch(app, "--json", "one JSON object a picture on standard output, not its path", kMessageGroup);
  flags.progress =
      add_text(app, "--progress", "auto|bar|json|none",
               "on standard error; json: lines {\"event\": ...} (default: auto, a bar on a terminal)", kMessageGroup);
  flags.quiet = add_switch(app, "-q,--quiet", "errors only", kMessageGroup);
  flags.verbose = add_switch(app, "-v,--verbose", "say more", kMessageGroup);
  app.set_help_flag("-h,--help", "this text")->group(kMessageGroup);
  return flags;
}

MessageOptions read_message_options(const MessageFlags& flags, Faults& faults) {
  read_log_level(flags, faults);
  return {.threads = static_cast<int>(whole_number_of(*flags.threads, 1, kMostThreads, faults).value_or(0)),
          .kernels = read_kernels(*flags.kernels, faults),
          .progress = read_progress(*flags.progress, faults),
          .json = flags.json->count() > 0};
}

OutputFlags add_output_options(CLI::App& app) {
  OutputFlags flags = {};
  flags.output = add_text(app, "-o,--output", "NAME", kOutputHelp, kOutputGroup);
  flags.outdir =
      add_text(app, "--outdir", "FOLDER", "where pictures go, made if missing (default: here)", kOutputGroup);
  flags.overwrite = add_switch(app, "--overwrite", "-o may replace files", kOutputGroup);
  flags.no_metadata = add_switch(app, "--disable-image-metadata", "leave the settings out of the PNG", kOutputGroup);
  flags.dry_run = add_switch(app, "--dry-run", "print each resolved request as a JSON object and stop", kMessageGroup);
  return flags;
}

// -o - is a place, not a name: what only names and files have does not go with it.
PictureOutput read_output_options(const OutputFlags& flags, bool json, Faults& faults) {
  PictureOutput out;
  out.metadata = flags.no_metadata->count() == 0;
  out.dry_run = flags.dry_run->count() > 0;
  out.files = {.output = value_of(*flags.output, faults),
               .outdir = value_of(*flags.outdir, faults),
               .overwrite = flags.overwrite->count() > 0};
  out.to_standard_output = out.files.output == "-";
  if (!out.to_standard_output) return out;
  const std::string no_effect = " has no effect with -o -";
  if (out.files.outdir) faults.add("--outdir" + no_effect);
  if (out.files.overwrite) faults.add("--overwrite" + no_effect);
  if (json) faults.add("--json and -o - both want standard output");
  if (::isatty(STDOUT_FILENO) && !out.dry_run)
    faults.add("-o -: standard output is a terminal; send it to a file or a program");
  out.files = {};
  return out;
}

void check_words(const Request& given, Faults& faults) {
  if (given.sampler) collect_usage_faults(faults, [&] { choose_sampler(*given.sampler); });
  if (given.scheduler) collect_usage_faults(faults, [&] { find_schedule(*given.scheduler); });
  if (given.device && *given.device != "auto")
    collect_usage_faults(faults, [&] { resolve_precision(*given.device, DtypeChoice::kF32); });
}

std::shared_ptr<CLI::Formatter> help_formatter_of(const std::string& usage) {
  return std::make_shared<CommandFormatter>(usage);
}

}  // namespace easel::cli
