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

  // The pictures from the first on, of this shard or of all. Of a live source only once.
  JobStream stream(bool all_shards = false) const;
  // How many they are, all shards' together; −1: unknown, of a live source.
  int64_t pictures() const { return pictures_; }
  // Standard input, a pipe: lines may still come, and results must not wait for them.
  bool is_live() const { return is_live_; }
  uint64_t base_seed() const { return base_seed_; }
  // "jobs.txt:17: "; empty for the command line's own.
  std::string place_of(const JobPicture& picture) const;
  // Seeds that were drawn, on standard error.
  void tell_seeds() const;

 private:
  void write_lines(Faults& faults);
  void check_file(Faults& faults);
  JobOptions job_options() const;

  const GenerateOptions& options_;
  bool is_live_ = false;
  bool seed_is_known_ = false;  // given or recorded
  uint64_t base_seed_ = 0;
  std::vector<uint64_t> seeds_;  // of the command line's prompts
  int lines_ = -1;               // its jobs as a file in memory
  int64_t pictures_ = -1;
};

}  // namespace easel::cli
