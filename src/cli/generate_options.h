// The options of `easel generate`, read and checked as far as that goes without opening a file.
#pragma once

#include "cli/commands.h"
#include "cli/progress.h"
#include "easel/batch.h"

namespace easel::cli {

struct GenerateOptions {
  Request common;                      // of all pictures: no prompt
  std::string model_note;              // where the model's name comes from; empty when -m says it
  std::vector<std::string> prompts;    // one empty one for models that take none
  std::vector<std::string> init_imgs;  // every one with every prompt; may be empty
  int64_t batch_count = 1;
  OutputOptions output;
  bool to_standard_output = false;  // -o -
  int threads = 0;                  // 0: libtorch's choice
  ProgressStyle progress = ProgressStyle::kAuto;
  std::optional<std::string> trajectory;  // the strip's file
  int64_t trajectory_every = 1;
  bool json = false, dry_run = false, image_metadata = true;
};

// Adds every fault. Null when --help or --version was asked for, which has then been answered. Sets the log level.
std::optional<GenerateOptions> read_generate_options(const Arguments& arguments, Faults& faults);

// All of standard input as one prompt, without the line ends at its end. Throws Error(kFile) when it cannot be read,
// Interrupted.
std::string read_prompt_from_standard_input();

}  // namespace easel::cli
