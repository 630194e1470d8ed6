#include "cli/preflight.h"

#include <algorithm>

namespace easel::cli {

Request resolved(const JobPicture& picture, const GenerateOptions& options, ModelsInUse& models,
                 std::vector<std::string>& notes) {
  Request request = picture.request;
  if (!request.model) request.model = options.default_model;
  if (!request.prompt) request.prompt = "";  // of a model that takes none
  const bool lenient = options.from_file || options.sweep.size() > 1;
  return resolve(request, models.open(request), precision_of(request), lenient ? &notes : nullptr);
}

Preflight::Preflight(const GenerateOptions& options, const JobSource& source, const Outputs& outputs)
    : options_(options),
      source_(source),
      writes_files_(!options.output.to_standard_output && !options.skip_save),
      names_need_models_(options.from_file || outputs.needs_checkpoint()),
      names_(outputs) {}

void Preflight::check_names(Faults& faults) {
  if (names_need_models_ || !writes_files_ || !options_.output.files.output) return;
  JobStream jobs = source_.stream(/*all_shards=*/true);
  for (JobEvent event = jobs.next(); event.kind != JobEvent::Kind::kEnd; event = jobs.next()) {
    const JobPicture& p = event.picture;
    if (event.kind == JobEvent::Kind::kPicture)
      names_.add({.index = p.index, .seed = *p.request.seed, .prompt = p.request.prompt.value_or("")});
  }
  names_.add_to(faults);
}

void Preflight::add_fault(const std::string& text) {
  constexpr std::size_t kShown = 20;
  if (std::find(shown_.begin(), shown_.end(), text) != shown_.end()) return;  // of pictures that differ in their seeds
  ++found_;
  if (shown_.size() < kShown) shown_.push_back(text);
}

std::optional<Request> Preflight::resolve_picture(const JobPicture& picture, ModelsInUse& models) {
  std::vector<std::string> notes;
  try {
    return resolved(picture, options_, models, notes);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) return std::nullopt;
    for (const std::string& fault : error.faults()) add_fault(source_.place_of(picture) + fault);
    return std::nullopt;
  }
}

void Preflight::check_requests(ModelsInUse& models, Faults& faults) {
  if (source_.is_live() || options_.keep_going) return;
  const bool names = names_need_models_ && writes_files_;
  std::optional<Request> request;
  int64_t job = -1, sweep = -1;
  JobStream jobs = source_.stream(/*all_shards=*/true);
  for (JobEvent event = jobs.next(); event.kind != JobEvent::Kind::kEnd; event = jobs.next()) {
    if (event.kind != JobEvent::Kind::kPicture) continue;
    const JobPicture& p = event.picture;
    if (p.job != job || p.sweep != sweep) request = resolve_picture(p, models);  // its others differ in their seeds
    job = p.job;
    sweep = p.sweep;
    if (!names || !request) continue;
    names_.add({p.index, *p.request.seed, p.request.prompt.value_or(""), *request->sampler,
                models.open(*request).name(), p.output});
  }
  for (const std::string& fault : shown_) faults.add(fault);
  if (found_ > static_cast<int64_t>(shown_.size()))
    faults.add("and " + std::to_string(found_ - static_cast<int64_t>(shown_.size())) + " more faults");
  if (names) names_.add_to(faults);
}

}  // namespace easel::cli
