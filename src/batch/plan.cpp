#include <limits>

#include "easel/batch.h"

namespace easel {

Plan::Plan(Request common, std::vector<std::string> prompts, std::vector<std::string> init_imgs, int64_t count,
           const std::function<uint64_t()>& draw_seed, Faults& faults)
    : common_(std::move(common)), prompts_(std::move(prompts)), init_imgs_(std::move(init_imgs)), count_(count) {
  TORCH_CHECK(count >= 1, "a plan of ", count, " pictures a prompt");
  for (std::size_t i = 0; i < prompts_.size(); ++i) seeds_.push_back(common_.seed ? *common_.seed : draw_seed());
  if (common_.seed && static_cast<uint64_t>(count - 1) > std::numeric_limits<uint64_t>::max() - *common_.seed)
    faults.add("--seed " + std::to_string(*common_.seed) + " with --batch-count " + std::to_string(count) +
               ": the last seed would be past 18446744073709551615");
}

Job Plan::job(int64_t index) const {
  TORCH_CHECK(index >= 0 && index < size(), "picture ", index, " of ", size());
  Job job{index, common_};
  const auto prompt = static_cast<std::size_t>(index / per_prompt());
  job.request.prompt = prompts_[prompt];
  job.request.seed = seeds_[prompt] + static_cast<uint64_t>(index % count_);
  if (!init_imgs_.empty()) job.request.init_img = init_imgs_[static_cast<std::size_t>(index % per_prompt() / count_)];
  return job;
}

}  // namespace easel
