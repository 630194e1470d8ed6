// What is wrong with the pictures of a run, found before the first is drawn.
#pragma once

#include "cli/job_source.h"
#include "cli/models_in_use.h"

namespace easel::cli {

class Preflight {
 public:
  Preflight(const GenerateOptions& options, const JobSource& source, const Outputs& outputs);

  // Names of the command line's pictures, where they need no model to be opened.
  void check_names(Faults& faults);
  // What only the models can tell, of every picture. Files that are missing are no fault here: each is its picture's
  // own. Streams, and files whose bad lines are left out, are looked at line by line as they are drawn.
  void check_requests(ModelsInUse& models, Faults& faults);

  // For Outputs::prepare().
  const std::vector<NameFacts>& one_a_folder() const { return names_.one_a_folder(); }

 private:
  std::optional<Request> resolve_picture(const JobPicture& picture, ModelsInUse& models);
  void add_fault(const std::string& text);

  const GenerateOptions& options_;
  const JobSource& source_;
  const bool writes_files_, names_need_models_;
  TargetCheck names_;
  std::vector<std::string> shown_;
  int64_t found_ = 0;
};

// The picture's request with its models' and the run's defaults; `notes` as of easel::resolve().
Request resolved(const JobPicture& picture, const GenerateOptions& options, ModelsInUse& models,
                 std::vector<std::string>& notes);

}  // namespace easel::cli
