// The configs of a checkpoint, wherever they are kept.
#pragma once

#include "easel/pipeline.h"

namespace easel {

struct Config {
  json content;
  std::string where;  // the file, for messages
};

// "model_index", "unet", "vae", "text_encoder", "text_encoder_2", "scheduler" → the config; nullopt where there is
// none.
using FindConfig = std::function<std::optional<Config>(const std::string& name)>;

// unet/config.json, scheduler/scheduler_config.json, …
FindConfig configs_of_folder(const std::filesystem::path& folder);
// models/specs/NAME: unet.json, scheduler.json, …
FindConfig configs_of_spec(const std::filesystem::path& folder);
// Those that a single file carries (see embedded_configs), and `otherwise` for the rest.
FindConfig configs_in_file(const WeightSource& file, FindConfig otherwise);

// Reads the parts' specs, the scheduler's fields and the family; throws Error(kFile) with the faults of all of them.
// The checkpoint's path is set; tokenizers are not.
void read_configs(Checkpoint& checkpoint, const FindConfig& find);
// Throws Error(kFile) when the parts do not belong together.
void check_fit(const Checkpoint& checkpoint);

}  // namespace easel
