#pragma once

#include "easel/weights.h"

namespace easel {

// The shards that an index file (`stem`.safetensors.index.json, .bin too) lists, as one source: {"weight_map": {name:
// shard}}. Throws Error(kFile) with every fault: shard names that are not plain file names, tensors that are not where
// the index says, tensors in two shards. A tensor that the index does not list is kept, so that it is accounted for.
SourcePtr open_sharded(const std::filesystem::path& index);

}  // namespace easel
