// The pictures of a run: read, packed, drawn and handed to the finisher.
#pragma once

#include <functional>

#include "cli/finisher.h"
#include "cli/job_source.h"
#include "cli/models_in_use.h"

namespace easel::cli {

class BatchRun {
 public:
  BatchRun(const GenerateOptions& options, const JobSource& source, ModelsInUse& models, Outputs& outputs);

  // Exit code: 0, or 5 when pictures failed (the others are drawn all the same). A picture alone throws its Error;
  // what ends the whole run is thrown (Error, Interrupted), and what was finished by then stays.
  int run();

 private:
  struct Waiting {
    JobPicture job;
    int64_t turn;
    Request request;       // resolved
    bool is_done = false;  // by the run that is resumed
    bool replace = false;
  };

  bool read_one();  // false at the end of the jobs
  void add(JobPicture job);
  void resolve_job(Waiting& waiting);
  void look_up(Waiting& waiting);
  void bad_line(const JobEvent& event);
  void cancel(const json& id);

  void prepare(const Request& first);
  int64_t choose_batch_size(const Request& first);
  void open_manifest(int64_t batch_size);
  void draw(const std::vector<int64_t>& pack);
  std::vector<Outcome> outcomes_of(const std::vector<Request>& requests);
  void read_while_drawing();

  void hand_over(Waiting& waiting, Picture picture);
  void fail(const Waiting& waiting, const Error& error);
  void drop(const Waiting& waiting, Finished::Status status);
  NameFacts facts_of(const Waiting& waiting);
  void save_trajectory();

  const GenerateOptions& options_;
  const JobSource& source_;
  ModelsInUse& models_;
  Outputs& outputs_;
  JobStream jobs_;
  Progress progress_;
  std::optional<ManifestReader> recorded_;
  std::optional<ManifestWriter> manifest_;
  std::optional<Packer> packer_;
  std::optional<Finisher> finisher_;
  std::map<int64_t, Waiting> waiting_;  // by picture index
  std::set<int64_t> drawing_, cancelled_;
  std::set<std::string> told_;  // notes
  Trajectory trajectory_;
  bool at_end_ = false;
  std::optional<Error> stopped_by_;  // a bad line of a pipe
  int64_t next_turn_ = 0, failed_ = 0, skipped_ = 0, bad_lines_ = 0;
};

}  // namespace easel::cli
