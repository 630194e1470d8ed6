#include <charconv>
#include <cstdlib>

#include "easel/jobs.h"

namespace easel {

namespace {

constexpr int64_t kMostShards = 1'000'000;

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole = error == std::errc() && stop == text.data() + text.size() && value >= 0;
  return is_whole ? std::optional(value) : std::nullopt;
}

class ShardReader {
 public:
  ShardReader(std::string where, const Environment& environment, Faults& faults)
      : where_(std::move(where)), environment_(environment), faults_(faults) {}

  Shard checked(std::optional<int64_t> index, std::optional<int64_t> count, const std::string& what) {
    if (!index || !count || *count < 1 || *count > kMostShards) return refuse("expected I/N, auto or auto/N" + what);
    if (*index >= *count) {
      return refuse(std::to_string(*index) + " is no part of " + std::to_string(*count) + ": parts count from 0 to " +
                    std::to_string(*count - 1) + what);
    }
    return {*index, *count};
  }

  // The number in a variable; a fault where it is there and is none.
  std::optional<int64_t> variable(const std::string& name) {
    const auto text = environment_(name);
    if (!text || text->empty()) return std::nullopt;
    const auto value = whole_number(*text);
    if (!value) refuse(name + " is " + shown(json(*text)) + ": expected a whole number");
    return value;
  }

  // An array of tasks first, first + step, … numbered anew from 0.
  Shard of_slurm(int64_t task) {
    const auto count = variable("SLURM_ARRAY_TASK_COUNT"), first = variable("SLURM_ARRAY_TASK_MIN");
    const auto last = variable("SLURM_ARRAY_TASK_MAX");
    const int64_t step = std::max<int64_t>(variable("SLURM_ARRAY_TASK_STEP").value_or(1), 1);
    if (!count || !first)
      return refuse("SLURM_ARRAY_TASK_ID is set, SLURM_ARRAY_TASK_COUNT or _MIN is not; say auto/N");
    const bool is_even =
        task >= *first && (task - *first) % step == 0 && (!last || *last == *first + (*count - 1) * step);
    if (!is_even) {
      return refuse("the tasks of this Slurm array are not evenly spaced (" + std::to_string(*count) +
                    " of them from " + std::to_string(*first) + "); number them 0-" + std::to_string(*count - 1) +
                    ", or say auto/N");
    }
    return checked((task - *first) / step, count, " (Slurm)");
  }

  Shard of_environment(std::optional<int64_t> count) {
    if (const auto task = variable("SLURM_ARRAY_TASK_ID"))
      return count ? checked(task, count, " (SLURM_ARRAY_TASK_ID)") : of_slurm(*task);
    if (const auto pod = variable("JOB_COMPLETION_INDEX")) {
      if (count) return checked(pod, count, " (JOB_COMPLETION_INDEX)");
      return refuse(
          "Kubernetes tells a pod its index and not how many there are; say auto/N with the Job's completions");
    }
    return refuse("neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; say I/N");
  }

  Shard refuse(const std::string& why) {
    if (!refused_) faults_.add(where_ + ": " + why);
    refused_ = true;
    return {};
  }

 private:
  std::string where_;
  const Environment& environment_;
  Faults& faults_;
  bool refused_ = false;
};

}  // namespace

std::string to_string(const Shard& shard) { return std::to_string(shard.index) + "/" + std::to_string(shard.count); }

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
}

Shard parse_shard(std::string_view text, const std::string& spelled, const Environment& environment, Faults& faults) {
  ShardReader reader(spelled + " " + shown(json(text)), environment, faults);
  if (text == "auto") return reader.of_environment(std::nullopt);
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return reader.refuse("expected I/N, auto or auto/N, as 0/4");
  const auto count = whole_number(text.substr(slash + 1));
  if (text.substr(0, slash) != "auto") return reader.checked(whole_number(text.substr(0, slash)), count, ", as 0/4");
  if (!count || *count < 1 || *count > kMostShards) return reader.refuse("expected I/N, auto or auto/N, as auto/4");
  return reader.of_environment(count);
}

}  // namespace easel
