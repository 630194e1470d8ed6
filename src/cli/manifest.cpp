// easel manifest merge: the manifests of a run's shards → one.
#include "easel/manifest.h"

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/generate_help.h"
#include "cli/results.h"
#include "cli/run_options.h"

namespace easel::cli {

namespace {

constexpr const char* kDescription =
    "Merges the manifests of a run's shards into one, in the order of the pictures, and prints its path.";

struct MergeOptions {
  std::vector<std::filesystem::path> files;
  std::filesystem::path target;
  bool overwrite = false;
};

// Null when --help was asked for.
std::optional<MergeOptions> read_merge_options(const Arguments& arguments, Faults& faults) {
  CLI::App app(kDescription, "easel manifest merge");
  app.formatter(help_formatter_of("easel manifest merge FILE... -o OUT [--overwrite]"));
  CLI::Option* files = add_text(app, "--file", "FILE", "a shard's manifest; the bare arguments", kBatchGroup);
  CLI::Option* output = add_text(app, "-o,--output", "OUT", "the whole run's manifest", kOutputGroup);
  CLI::Option* overwrite = add_switch(app, "--overwrite", "-o may replace a file", kOutputGroup);
  CLI::Option* quiet = add_switch(app, "-q,--quiet", "errors only", kMessageGroup);
  app.set_help_flag("-h,--help", "this text")->group(kMessageGroup);
  if (!parse(app, arguments, "--file", faults)) return std::nullopt;

  MergeOptions out;
  if (quiet->count() > 0) log::set_level(log::Level::kQuiet);
  for (const std::string& file : files->results()) {
    if (file.empty()) faults.add("a manifest's name is empty");
    out.files.emplace_back(file);
  }
  if (out.files.empty()) faults.add("no manifests to merge");
  out.target = value_of(*output, faults).value_or("");
  if (out.target.empty()) faults.add("-o is missing: where the merged manifest goes");
  out.overwrite = overwrite->count() > 0;
  return out;
}

std::string some_of(const std::vector<int64_t>& shards, int64_t count) {
  constexpr std::size_t kShown = 10;
  std::vector<std::string> words;
  for (std::size_t i = 0; i < shards.size() && i < kShown; ++i) words.push_back(to_string(Shard{shards[i], count}));
  const std::string more = shards.size() > kShown ? " and " + std::to_string(shards.size() - kShown) + " more" : "";
  return listed(words) + more;
}

int merge(const Arguments& arguments) {
  Faults faults;
  const std::optional<MergeOptions> options = read_merge_options(arguments, faults);
  if (!options) return 0;
  faults.raise_if_any(ErrorKind::kUsage, "see 'easel manifest merge --help'");
  const MergeResult result = merge_manifests(options->files, options->target, options->overwrite);
  print_line(options->target.string());
  if (result.failed > 0)
    log::error(std::to_string(result.failed) + " of " + std::to_string(result.pictures) + " pictures failed");
  if (!result.missing_shards.empty()) {
    const int64_t count = ManifestReader(options->target).header().shard_count;
    log::error("the run is not whole: nothing of shard " + some_of(result.missing_shards, count));
  }
  return result.failed > 0 || !result.missing_shards.empty() ? static_cast<int>(ErrorKind::kPicture) : 0;
}

}  // namespace

int manifest(const Arguments& arguments) {
  const std::string what = arguments.empty() ? "" : arguments.front();
  if (what == "merge") return merge({arguments.begin() + 1, arguments.end()});
  if (what == "-h" || what == "--help") return merge({"--help"});
  throw Error(ErrorKind::kUsage, what.empty() ? "nothing to do" : "manifest cannot " + what,
              "easel manifest merge FILE... -o OUT");
}

}  // namespace easel::cli
