// What is laid over a picture's recorded settings. All of these are resolved, so what was asked for and what was filled
// in cannot be told apart by themselves. The rules, in this order:
//   1. A recorded value that the recorded model gives by itself beside the others counts as not asked for: with another
//      width SDXL is told the new size, with another model come its steps, sampler and prediction.
//   2. A recorded setting that does not go with what is given (no effect beside it, excluded by it) is left out, which
//      is said.
// Where the recorded model is gone, its values stay as they are but for those that describe it: prediction, clip_skip
// and SDXL's sizes where they are the picture's.
#pragma once

#include <map>
#include <set>

#include "cli/models_in_use.h"
#include "cli/recorded.h"

namespace easel::cli {

class Overrides {
 public:
  // `without`: names of fields to be taken back.
  Overrides(Request given, std::set<std::string> without) : given_(std::move(given)), without_(std::move(without)) {}

  // The request to draw, resolved. Throws what open_models(), resolve() and resolve_precision() throw; Error(kFile) for
  // recorded settings that cannot be drawn even as they are, and for a recorded model that is gone and nothing is given
  // in its place.
  Request apply(const Recorded& recorded, ModelsInUse& models);

  // What rule 2 left out, a line each.
  void tell_left_out() const;

 private:
  bool is_empty() const;
  bool is_given(const RequestField& field) const;
  const Checkpoint* recorded_checkpoint(const Recorded& recorded, ModelsInUse& models) const;
  Request resolved(Request request, const Recorded& recorded, ModelsInUse& models);
  const RequestField* yielding(const Request& request, const std::string& fault, ModelsInUse& models) const;

  Request given_;
  std::set<std::string> without_;
  std::map<std::string, std::vector<std::string>> left_out_;  // reason → pictures
};

}  // namespace easel::cli
