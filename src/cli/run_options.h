// Options that the drawing commands have in common: messages, threads, where pictures go.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/progress.h"
#include "easel/batch.h"

namespace easel::cli {

struct MessageFlags {
  CLI::Option *threads, *kernels, *json, *progress, *quiet, *verbose;
};
struct MessageOptions {
  int threads = 0;  // 0: libtorch's choice
  Kernels kernels = Kernels::kFast;
  ProgressStyle progress = ProgressStyle::kAuto;
  bool json = false;
};
MessageFlags add_message_options(CLI::App& app);
// Adds every fault. Sets the log level.
MessageOptions read_message_options(const MessageFlags& flags, Faults& faults);

struct OutputFlags {
  CLI::Option *output, *outdir, *overwrite, *no_metadata, *dry_run;
};
struct PictureOutput {
  OutputOptions files;
  bool to_standard_output = false;  // -o -
  bool metadata = true, dry_run = false;
};
OutputFlags add_output_options(CLI::App& app);
PictureOutput read_output_options(const OutputFlags& flags, bool json, Faults& faults);

// Words that only a table elsewhere knows, so that a wrong one is told before any file is opened.
void check_words(const Request& given, Faults& faults);

// help_formatter() for another command than generate: "Usage: easel rerun [options] PNG...".
std::shared_ptr<CLI::Formatter> help_formatter_of(const std::string& usage);

}  // namespace easel::cli
