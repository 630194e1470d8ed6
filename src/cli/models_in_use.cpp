#include "cli/models_in_use.h"

namespace easel::cli {

namespace {

std::string key_of_models(const Request& r) {
  return json({r.model.value_or(kBundledModel), r.vae.value_or(""), r.refiner.value_or("")}).dump();
}

std::string changed(const std::string& what, const std::string& now, const std::string& then) {
  constexpr std::size_t kShown = 10;  // as in A1111's "Model hash"
  return "the " + what + " is another one: hash " + (now.empty() ? "none" : now.substr(0, kShown)) + ", recorded " +
         then.substr(0, kShown);
}

std::vector<std::string> differences_of(const ModelHashes& recorded, const ModelHashes& here) {
  std::vector<std::string> all;
  const auto look = [&](const char* what, const std::string& then, const std::string& now) {
    if (!then.empty() && then != now) all.push_back(changed(what, now, then));
  };
  look("model", recorded.model, here.model);
  look("VAE", recorded.vae, here.vae);
  look("refiner", recorded.refiner, here.refiner);
  return all;
}

}  // namespace

Precision precision_of(const Request& r) {
  return resolve_precision(r.device.value_or("auto"), dtype_choice(r.dtype.value_or("auto")));
}

bool are_recorded(const ModelHashes& recorded, const Checkpoint& checkpoint) {
  return differences_of(recorded, model_hashes(checkpoint, /*prefer_half=*/false)).empty() ||
         differences_of(recorded, model_hashes(checkpoint, /*prefer_half=*/true)).empty();
}

const Checkpoint& ModelsInUse::open(const Request& request) {
  const std::string key = key_of_models(request);
  const auto known = checkpoints_.find(key);
  return known != checkpoints_.end() ? known->second : checkpoints_.emplace(key, open_models(request)).first->second;
}

const Checkpoint& ModelsInUse::open_recorded(const Request& recorded) {
  try {
    return open(recorded);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kFile) throw;
    throw Error(error.kind(), error.faults(),
                "so it was recorded, relative paths from the working folder of then; -m, --vae and --refiner say where "
                "the models are now");
  }
}

Request ModelsInUse::resolved(const Request& request) {
  const Checkpoint& checkpoint = open(request);
  return resolve(request, checkpoint, precision_of(request));
}

Pipeline& ModelsInUse::pipeline(const Request& r) {
  const std::string key = key_of_models(r) + *r.device + *r.dtype;
  if (pipeline_ && key == key_) return *pipeline_;
  pipeline_.reset();
  const Precision precision = precision_of(r);
  pipeline_ = std::make_unique<Pipeline>(open(r), precision);
  key_ = key;
  hashes_ = std::async(std::launch::async, [&checkpoint = open(r), half = precision.unet != at::kFloat] {
    return model_hashes(checkpoint, half);
  });
  return *pipeline_;
}

std::vector<std::string> ModelsInUse::differences(const ModelHashes& recorded, const Request& resolved) {
  std::vector<std::string> all = differences_of(recorded, hashes());
  if (!all.empty() && are_recorded(recorded, pipeline_->checkpoint())) all.clear();
  ModelHashes here;
  add_adapter_hashes(here, resolved);
  const auto look = [&](const std::string& what, const auto& then, const auto& now) {
    for (const auto& [name, hash] : then) {
      const auto found = now.find(name);
      if (found != now.end() && found->second != hash) all.push_back(changed(what + name, found->second, hash));
    }
  };
  look("LoRA ", recorded.loras, here.loras);
  look("ControlNet ", recorded.controls, here.controls);
  return all;
}

}  // namespace easel::cli
