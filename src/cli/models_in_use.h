// The models of a run that draws pictures of several: each opened once, the last one's networks kept.
#pragma once

#include <future>

#include "easel/pipeline.h"

namespace easel::cli {

class ModelsInUse {
 public:
  // open_models(), remembered by model, VAE and refiner.
  const Checkpoint& open(const Request& request);
  // The same of recorded settings: where the models are gone, the hint says how to say where they are.
  const Checkpoint& open_recorded(const Request& recorded);

  // resolve() on the request's own models, device and dtype.
  Request resolved(const Request& request);

  // The pipeline of a resolved request: the one before where it has the same models, device and dtype, else that one is
  // freed first. Its hashes are computed beside.
  Pipeline& pipeline(const Request& resolved);
  // Of the pipeline's models. Waits.
  const ModelHashes& hashes() { return hashes_.get(); }
  // The models of the pipeline and the LoRAs of the request that are not the recorded ones: "the model is another one:
  // hash 0123…, recorded 4567…". Waits.
  std::vector<std::string> differences(const ModelHashes& recorded, const Request& resolved);

 private:
  std::map<std::string, Checkpoint> checkpoints_;
  std::string key_;
  std::unique_ptr<Pipeline> pipeline_;
  std::shared_future<ModelHashes> hashes_;
};

// Whether these hashes are the checkpoint's. Which of a folder's files were read, fp16 or not, is not recorded: either
// will do. Reads all the files that the cache does not know.
bool are_recorded(const ModelHashes& recorded, const Checkpoint& checkpoint);

Precision precision_of(const Request& request);

}  // namespace easel::cli
