#include "cli/overrides.h"

#include <algorithm>

#include "easel/jobs.h"

namespace easel::cli {

namespace {

// Those that resolve() does not find in the model.
bool is_of_the_run(const RequestField& field) {
  static const std::set<std::string> names = {"seed", "model", "device", "dtype"};
  return names.contains(field.name);
}

std::vector<std::string> usage_faults(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) throw;
    return error.faults();
  }
  return {};
}

// Rule 1.
Request asked_for(const Request& recorded, const Checkpoint& checkpoint) {
  const Precision any;  // it only fills in device and dtype
  const json whole = to_json(resolve(recorded, checkpoint, any));
  Request request = recorded;
  for (const RequestField& field : request_fields()) {
    if (is_of_the_run(field) || field.name == "prompt" || !is_set(request, field)) continue;
    Request less = request;
    unset(less, field);
    json filled;
    const bool resolves = usage_faults([&] { filled = to_json(resolve(less, checkpoint, any)); }).empty();
    if (resolves && filled == whole) request = less;
  }
  return request;
}

// Rule 1 without the model.
Request without_traits(Request r) {
  r.prediction.reset();
  r.clip_skip.reset();
  if (!r.width || !r.height) return r;
  const std::string size = std::to_string(*r.width) + "x" + std::to_string(*r.height);
  for (auto* told : {&r.original_size, &r.target_size}) {
    if (*told == size) told->reset();
  }
  return r;
}

// The flags that a fault is about: of "--mask and --outpaint exclude each other" both, of "--eta has no effect: …" one.
std::vector<std::string> subjects(std::string_view fault) {
  std::vector<std::string> flags;
  for (bool goes_on = true; goes_on && fault.starts_with("--");) {
    const std::size_t end = std::min(fault.find_first_of(" :"), fault.size());
    flags.emplace_back(fault.substr(2, end - 2));
    std::replace(flags.back().begin(), flags.back().end(), '-', '_');
    fault.remove_prefix(end);
    goes_on = fault.starts_with(" and ");
    if (goes_on) fault.remove_prefix(std::string_view(" and ").size());
  }
  return flags;
}

}  // namespace

bool Overrides::is_given(const RequestField& field) const { return is_set(given_, field); }

bool Overrides::is_empty() const {
  const auto& fields = request_fields();
  return without_.empty() &&
         std::none_of(fields.begin(), fields.end(), [&](const RequestField& f) { return is_given(f); });
}

Request Overrides::apply(const Recorded& recorded, ModelsInUse& models) {
  const Checkpoint* checkpoint = recorded_checkpoint(recorded, models);
  if (checkpoint == nullptr)
    log::note(recorded.file.string() + ": the recorded model " + *recorded.request.model +
              " is not here, so its defaults are not known: steps, size, sampler and the rest stay as recorded");
  Request request = recorded.request;
  if (checkpoint != nullptr) {
    const auto faults = usage_faults([&] { resolve(recorded.request, *checkpoint, Precision{}); });
    if (!faults.empty()) throw Error(ErrorKind::kFile, faults, "its recorded settings cannot be drawn");
    if (!is_empty()) request = asked_for(recorded.request, *checkpoint);
  } else {
    request = without_traits(std::move(request));
  }
  for (const std::string& name : without_) unset(request, *find_request_field(name));
  return resolved(lay_over(std::move(request), given_), recorded, models);
}

// Null where it is not here; a model that is given in its place with the recorded hashes is the recorded one.
const Checkpoint* Overrides::recorded_checkpoint(const Recorded& recorded, ModelsInUse& models) const {
  try {
    return &models.open_recorded(recorded.request);
  } catch (const Error& error) {
    const bool is_replaced =
        given_.model || given_.vae || given_.refiner || without_.contains("vae") || without_.contains("refiner");
    if (!is_replaced || error.kind() != ErrorKind::kFile) throw;
  }
  Request moved = recorded.request;
  for (const std::string& name : without_) unset(moved, *find_request_field(name));
  const Checkpoint& checkpoint = models.open(lay_over(std::move(moved), given_));
  return !recorded.hashes.model.empty() && are_recorded(recorded.hashes, checkpoint) ? &checkpoint : nullptr;
}

// Rule 2.
Request Overrides::resolved(Request request, const Recorded& recorded, ModelsInUse& models) {
  for (;;) {
    Request whole;
    const std::vector<std::string> faults = usage_faults([&] { whole = models.resolved(request); });
    if (faults.empty()) return whole;
    const RequestField* field = nullptr;
    for (std::size_t i = 0; i < faults.size() && field == nullptr; ++i) {
      field = yielding(request, faults[i], models);
      if (field != nullptr) left_out_[faults[i]].push_back(recorded.file.string());
    }
    if (field == nullptr) throw Error(ErrorKind::kUsage, faults);
    unset(request, *field);
  }
}

// The recorded setting that the fault is about and that takes the fault with it; null where there is none.
const RequestField* Overrides::yielding(const Request& request, const std::string& fault, ModelsInUse& models) const {
  if (is_empty()) return nullptr;
  for (const std::string& name : subjects(fault)) {
    const RequestField* field = find_request_field(name);
    if (field == nullptr || is_of_the_run(*field) || is_given(*field) || !is_set(request, *field)) continue;
    Request less = request;
    unset(less, *field);
    const std::vector<std::string> left = usage_faults([&] { models.resolved(less); });
    if (std::find(left.begin(), left.end(), fault) == left.end()) return field;
  }
  return nullptr;
}

void Overrides::tell_left_out() const {
  for (const auto& [reason, pictures] : left_out_) {
    const std::string more = pictures.size() > 1 ? " and " + std::to_string(pictures.size() - 1) + " more" : "";
    log::note(pictures.front() + more + ": left out of what was recorded: " + reason);
  }
}

}  // namespace easel::cli
