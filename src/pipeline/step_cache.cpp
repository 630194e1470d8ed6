#include "pipeline/step_cache.h"

#include <charconv>

namespace easel {

namespace {

// The number before the next colon, which is taken off; nullopt for anything else.
std::optional<int64_t> take_number(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find(':'));
  int64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || end != word.data() + word.size() || word.empty()) return std::nullopt;
  text.remove_prefix(word.size());
  return number;
}

}  // namespace

std::optional<StepCacheSpec> step_cache_of(std::string_view text) {
  constexpr std::string_view kName = "deepcache:";
  constexpr int64_t kMost = 1000;
  if (!text.starts_with(kName)) return std::nullopt;
  text.remove_prefix(kName.size());
  const std::optional<int64_t> interval = take_number(text);
  std::optional<int64_t> branch = 0;
  if (text.starts_with(':')) {
    text.remove_prefix(1);
    branch = take_number(text);
  }
  if (!interval || !branch || !text.empty() || *interval < 2 || *interval > kMost || *branch < 0) return std::nullopt;
  return StepCacheSpec{*interval, *branch};
}

void refuse_step_cache(const Request& r, const UNetSpec& unet, Faults& faults) {
  if (!r.cache) return;
  const std::string flag = "--cache " + json(*r.cache).dump() + ": ";
  const std::optional<StepCacheSpec> spec = step_cache_of(*r.cache);
  if (!spec) {
    faults.add(flag + "expected deepcache:N or deepcache:N:B, N from 2 to 1000 and B from 0");
  } else if (spec->branch > unet.skips() - 2) {
    faults.add(flag + "this U-Net has " + std::to_string(unet.skips()) + " skip connections: B is " +
               std::to_string(unet.skips() - 2) + " at most");
  }
}

DeepFeature& StepCache::next(int64_t rows) {
  feature_.branch = spec_.branch;
  feature_.is_reused = calls_++ % spec_.interval != 0 && rows == rows_;
  rows_ = rows;
  return feature_;
}

}  // namespace easel
