// The options of `easel generate`, read and checked as far as that goes without opening a file.
#pragma once

#include "cli/commands.h"
#include "cli/run_options.h"
#include "easel/jobs.h"

namespace easel::cli {

struct GenerateOptions {
  Request flags;              // of all pictures: what was given, without prompts and the model where -m does not say it
  std::string default_model;  // EASEL_MODEL, else the bundled one
  std::string model_note;     // where it comes from; empty when -m says it
  // Jobs from the command line…
  std::vector<std::string> prompts;    // one empty one for models that take none
  std::vector<std::string> init_imgs;  // every one with every prompt; may be empty
  // … or from a file.
  std::optional<std::string> from_file;  // "-": standard input
  bool keep_going = false, unordered = false;
  std::shared_ptr<const WildcardSource> wildcards;  // null: braces in prompts are text
  Sweep sweep;
  int64_t batch_count = 1;

  std::optional<int64_t> batch_size;  // auto when it is not given
  bool deterministic = false;
  std::optional<Shard> shard;
  bool resume = false;
  std::optional<std::filesystem::path>
      manifest;  // of --resume, where --manifest does not say it: OUTDIR/manifest.jsonl

  MessageOptions messages;
  PictureOutput output;
  bool skip_save = false;
  std::optional<std::string> grid;        // the contact sheet's file
  std::optional<std::string> expect;      // the picture that every one has to be
  int tolerance = kRoundingTolerance;     // in 8-bit values
  std::optional<std::string> junit;       // the report's file
  std::optional<std::string> trajectory;  // the strip's file
  int64_t trajectory_every = 1;

  // Whether there may be several pictures: faults of one are then told and the others drawn.
  bool is_batch() const {
    return from_file || prompts.size() * std::max<std::size_t>(1, init_imgs.size()) > 1 || batch_count > 1 ||
           sweep.size() > 1;
  }
};

// Adds every fault. Null when --help or --version was asked for, which has then been answered. Sets the log level.
std::optional<GenerateOptions> read_generate_options(const Arguments& arguments, Faults& faults);

// All of standard input as one prompt, without the line ends at its end. Throws Error(kFile) when it cannot be read,
// Interrupted.
std::string read_prompt_from_standard_input();

}  // namespace easel::cli
