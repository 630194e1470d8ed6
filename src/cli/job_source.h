// The pictures that the command line asks for: of its own prompts, or of a job file.
#pragma once

#include "cli/generate_options.h"
#include "easel/manifest.h"

namespace easel::cli {

class JobSource {
 public:
  // Draws the seeds that are not given. A job file that can be read twice is checked whole. Adds every fault.
  JobSource(const GenerateOptions& options, Faults& faults);
  ~JobSource();
  JobSource(const JobSource&) = delete;

  // The pictures of this shard from the first on. Of standard input only once.
  JobStream stream() const;
  // How many they are, of shards about; −1: unknown, of standard input.
  int64_t pictures() const { return pictures_; }
  // Whether lines may still come: results must not wait for them.
  bool is_live() const { return options_.from_file == "-"; }
  uint64_t base_seed() const { return base_seed_; }
  // Of a run whose job file is not looked at before: {index, seed, prompt} of each picture.
  std::vector<NameFacts> name_facts() const;
  // Seeds that were drawn, on standard error.
  void tell_seeds() const;

 private:
  void write_lines(Faults& faults);
  void check_file(Faults& faults);
  JobOptions job_options() const;

  const GenerateOptions& options_;
  uint64_t base_seed_ = 0;
  std::vector<uint64_t> seeds_;  // of the command line's prompts
  int lines_ = -1;               // its jobs as a file in memory
  int64_t pictures_ = -1;
};

}  // namespace easel::cli
