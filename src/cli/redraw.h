// Pictures that are drawn again from their PNGs.
#pragma once

#include "cli/models_in_use.h"
#include "cli/progress.h"
#include "cli/recorded.h"

namespace easel::cli {

struct Redraw {
  Recorded recorded;
  Request request;  // resolved
};

// All of them, before anything is drawn. `request_of` gives what is to be drawn of a recorded picture, resolved. Throws
// Error with every PNG's faults, each with its file; of several kinds the lowest.
std::vector<Redraw> plan_redraws(const std::vector<std::string>& files,
                                 const std::function<Request(const Recorded&)>& request_of);

struct Redrawn {
  std::size_t index;
  Request request;  // with the dtype that it was drawn in
  Picture picture;
  double seconds;
};

// In order. A picture that fails is told, to `failed` too, and the others are drawn all the same. Returns how many
// failed. Throws Error and Interrupted.
int64_t draw_again(const std::vector<Redraw>& redraws, ModelsInUse& models, Progress& progress,
                   const std::function<void(Redrawn)>& drawn,
                   const std::function<void(std::size_t index, const Error&)>& failed = {});

}  // namespace easel::cli
