// --cache: what the U-Net keeps from one call to the next, to be faster and a little wrong.
#pragma once

#include "easel/pipeline.h"
#include "easel/unet.h"

namespace easel {

// "deepcache:N" or "deepcache:N:B" (Ma et al. 2024, arXiv 2312.00858): every Nth call computes the whole U-Net, the
// calls between only the layers that see its B + 1 finest skip connections; B is 0 where it is not given, as in the
// reference, DeepCache's cache_interval and cache_branch_id.
struct StepCacheSpec {
  int64_t interval, branch;
};

// Nullopt for text that is neither.
std::optional<StepCacheSpec> step_cache_of(std::string_view text);

// Adds what is wrong with the request's cache for this U-Net.
void refuse_step_cache(const Request& r, const UNetSpec& unet, Faults& faults);

// One way through the steps.
class StepCache {
 public:
  explicit StepCache(const StepCacheSpec& spec) : spec_(spec) {}
  // For the next call, with a batch of so many rows: a changed number computes everything.
  DeepFeature& next(int64_t rows);

 private:
  StepCacheSpec spec_;
  int64_t calls_ = 0, rows_ = 0;
  DeepFeature feature_;
};

}  // namespace easel
