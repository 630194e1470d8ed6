#include "cli/drawing.h"

#include "cli/results.h"

namespace easel::cli {

Drawing::Drawing(const GenerateOptions& options, const Plan& plan, Pipeline& pipeline, Outputs& outputs,
                 std::function<NameFacts(int64_t)> facts_of)
    : options_(options),
      plan_(plan),
      pipeline_(pipeline),
      outputs_(outputs),
      facts_of_(std::move(facts_of)),
      progress_(options.progress, plan.size()) {
  if (options_.image_metadata)
    model_hashes_ = std::async(std::launch::async, [&pipeline] {
      return model_hashes(pipeline.checkpoint(), pipeline.precision().unet != at::kFloat);
    });
}

int Drawing::run() {
  int64_t failed = 0;
  const std::string of_all = " of " + std::to_string(plan_.size()) + " pictures";
  try {
    for (int64_t i = 0; i < plan_.size(); ++i) {
      try {
        draw(plan_.job(i));
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::kPicture) throw;
        log::error("picture " + std::to_string(i) + ": " + error.what());
        if (!error.hint().empty()) log::note(error.hint());
        ++failed;
      }
    }
  } catch (const Interrupted&) {
    log::note("interrupted: " + std::to_string(progress_.finished()) + of_all + " finished");
    throw;
  }
  if (failed > 0 && plan_.size() > 1) log::error(std::to_string(failed) + of_all + " failed");
  return failed > 0 ? static_cast<int>(ErrorKind::kPicture) : 0;
}

void Drawing::draw(const Job& job) {
  Request request = resolve(job.request, pipeline_.checkpoint(), pipeline_.precision());
  progress_.start_picture(job.index);
  Trajectory trajectory{.every = options_.trajectory_every};
  Picture picture = pipeline_.generate(
      request, [&](int done, int total) { progress_.step(done, total); }, options_.trajectory ? &trajectory : nullptr);
  request.dtype = picture.precision.dtype_name();  // f32 after a retry
  save(job, request, std::move(picture));
  if (options_.trajectory) save_trajectory(std::move(trajectory));
}

// x_t in the upper row, x_0 as it was predicted in the lower one.
void Drawing::save_trajectory(Trajectory trajectory) {
  const int columns = static_cast<int>(trajectory.noisy.size());
  std::vector<LabelledImage> cells = std::move(trajectory.noisy);
  for (LabelledImage& cell : trajectory.predicted) cells.push_back({std::move(cell.image), "x0 at " + cell.label});
  write_file_atomically(*options_.trajectory, encode_png(contact_sheet(cells, columns), {}), /*overwrite=*/false);
  log::note("trajectory: " + *options_.trajectory);
}

std::string Drawing::png_of(const Picture& picture, const Request& request) {
  if (!options_.image_metadata) return encode_png(picture.image, {});
  return encode_png(picture.image, png_texts(request, model_hashes_.get(), pipeline_.checkpoint()));
}

void Drawing::save(const Job& job, const Request& request, Picture picture) {
  const double start = now_seconds();
  const std::string png = png_of(picture, request);
  if (options_.to_standard_output) {
    print_text(png);
    progress_.finish_picture("-", *request.seed);
    return;
  }
  const std::filesystem::path path = outputs_.write(facts_of_(job.index), png);
  progress_.finish_picture(path.string(), *request.seed);
  tell(job, request, path, picture, now_seconds() - start);
}

void Drawing::tell(const Job& job, const Request& request, const std::filesystem::path& path, const Picture& picture,
                   double save_seconds) {
  const Timings& t = picture.timings;
  if (!options_.json) return print_line(path.string());
  const nlohmann::ordered_json result = {
      {"index", job.index},
      {"path", path.string()},
      {"seed", *request.seed},
      {"request", to_json(request)},
      {"timings",
       {{"load", t.load}, {"encode", t.encode}, {"sample", t.sample}, {"decode", t.decode}, {"save", save_seconds}}}};
  print_line(result.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

}  // namespace easel::cli
