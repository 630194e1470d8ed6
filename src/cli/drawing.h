// The pictures of a plan, one after the other: sampled, saved, told.
#pragma once

#include <future>

#include "cli/generate_options.h"

namespace easel::cli {

class Drawing {
 public:
  Drawing(const GenerateOptions& options, const Plan& plan, Pipeline& pipeline, Outputs& outputs,
          std::function<NameFacts(int64_t)> facts_of);

  // Exit code: 0, or 5 when pictures failed (the others are drawn all the same). Throws Error and Interrupted; what was
  // finished by then stays.
  int run();

 private:
  void draw(const Job& job);
  std::string png_of(const Picture& picture, const Request& request);
  void save_trajectory(Trajectory trajectory);
  void save(const Job& job, const Request& request, Picture picture);
  void tell(const Job& job, const Request& request, const std::filesystem::path& path, const Picture& picture,
            double save_seconds);

  const GenerateOptions& options_;
  const Plan& plan_;
  Pipeline& pipeline_;
  Outputs& outputs_;
  const std::function<NameFacts(int64_t)> facts_of_;
  Progress progress_;
  std::shared_future<ModelHashes> model_hashes_;  // computed while the first picture is sampled
};

}  // namespace easel::cli
