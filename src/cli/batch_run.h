// The pictures of a run: read, packed, drawn and handed to the finisher.
#pragma once

#include <functional>

#include "cli/finisher.h"
#include "cli/job_source.h"
#include "cli/models_in_use.h"

namespace easel::cli {

// Whether the other pictures of a batch are drawn all the same.
bool is_of_picture(const Error& error);

class BatchRun {
 public:
  BatchRun(const GenerateOptions& options, const JobSource& source, ModelsInUse& models, Outputs& outputs);

  // Exit code: 0, or 5 when pictures failed (the others are drawn all the same), the lowest of their own where there is
  // no other. A picture alone throws its Error; what ends the whole run is thrown (Error, Interrupted), and what was
  // finished by then stays.
  int run();

 private:
  struct Waiting {
    JobPicture job;
    int64_t turn;
    Request request;                            // resolved
    std::optional<std::filesystem::path> done;  // by the run that is resumed
    bool replace = false;
  };

  void draw_all();
  int exit_code() const;

  bool read_one();  // false at the end of the jobs
  void add(JobPicture job);
  std::optional<Error> prepare(Waiting& waiting);
  void resolve_job(Waiting& waiting);
  void look_up(Waiting& waiting);
  void check_name(const Waiting& waiting);
  void bad_line(const JobEvent& event);
  void cancel(const json& id);

  void resume();
  int64_t choose_batch_size(const Request& first);
  void begin(int64_t batch_size);
  std::string command_hash();

  void draw(const std::vector<int64_t>& pack);
  std::optional<std::vector<Outcome>> outcomes_of_pack(const std::vector<int64_t>& pack);
  std::vector<Outcome> outcomes_of(const std::vector<Request>& requests);
  bool is_of_run(const Error& error, const Request& request) const;
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
  std::exception_ptr broken_by_;     // what ended the reading beside the drawing
  int64_t next_turn_ = 0, pictures_ = 0, failed_ = 0, skipped_ = 0, bad_lines_ = 0;
  ErrorKind lowest_kind_ = ErrorKind::kPicture;  // of pictures that failed
};

}  // namespace easel::cli
