#include "cli/redraw.h"

#include <algorithm>

#include "easel/runtime.h"

namespace easel::cli {

namespace {

constexpr std::size_t kMostFaults = 20;

// Faults of many files as one Error.
class FaultsOfFiles {
 public:
  void add(const std::string& file, const Error& error) {
    kind_ = kind_ ? std::min(*kind_, error.kind()) : error.kind();
    if (hint_.empty()) hint_ = error.hint();
    for (const std::string& fault : error.faults()) {
      if (++count_ <= kMostFaults) faults_.push_back(fault.starts_with(file) ? fault : file + ": " + fault);
    }
  }

  void raise_if_any() {
    if (!kind_) return;
    if (count_ > kMostFaults) faults_.push_back("and " + std::to_string(count_ - kMostFaults) + " more faults");
    throw Error(*kind_, std::move(faults_), hint_);
  }

 private:
  std::optional<ErrorKind> kind_;
  std::size_t count_ = 0;
  std::vector<std::string> faults_;
  std::string hint_;
};

Redrawn draw_one(const Redraw& redraw, std::size_t index, ModelsInUse& models, Progress& progress) {
  const double start = now_seconds();
  Pipeline& pipeline = models.pipeline(redraw.request);
  Picture picture = pipeline.generate(redraw.request, [&](int done, int total) { progress.step(done, total); });
  Request request = redraw.request;
  request.dtype = picture.precision.dtype_name();  // f32 after a retry
  return {index, std::move(request), std::move(picture), now_seconds() - start};
}

}  // namespace

std::vector<Redraw> plan_redraws(const std::vector<std::string>& files,
                                 const std::function<Request(const Recorded&)>& request_of) {
  std::vector<Redraw> redraws;
  FaultsOfFiles faults;
  for (const std::string& file : files) {
    check_interrupted();
    try {
      Recorded recorded = read_recorded(file);
      Request request = request_of(recorded);
      redraws.push_back({std::move(recorded), std::move(request)});
    } catch (const Error& error) {
      faults.add(file, error);
    }
  }
  faults.raise_if_any();
  return redraws;
}

int64_t draw_again(const std::vector<Redraw>& redraws, ModelsInUse& models, Progress& progress,
                   const std::function<void(Redrawn)>& drawn,
                   const std::function<void(std::size_t, const Error&)>& failed) {
  int64_t failures = 0;
  const std::string of_all = " of " + std::to_string(redraws.size()) + " pictures";
  try {
    for (std::size_t i = 0; i < redraws.size(); ++i) {
      progress.start_pictures(static_cast<int64_t>(i), 1);
      try {
        drawn(draw_one(redraws[i], i, models, progress));
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::kPicture) throw;
        log::error(redraws[i].recorded.file.string() + ": " + error.what());
        if (!error.hint().empty()) log::note(error.hint());
        if (failed) failed(i, error);
        ++failures;
      }
    }
  } catch (const Interrupted&) {
    log::note("interrupted: " + std::to_string(progress.finished()) + of_all + " finished");
    throw;
  }
  if (failures > 0 && redraws.size() > 1) log::error(std::to_string(failures) + of_all + " failed");
  return failures;
}

}  // namespace easel::cli
