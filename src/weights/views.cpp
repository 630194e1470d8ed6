#include "easel/weights.h"
#include "weights/dtypes.h"
#include "weights/fault_list.h"

namespace easel {

namespace {

class Renamed : public WeightSource {
 public:
  // Names that are not listed are stored, if at all, with `prefix` in front; that only matters to messages.
  Renamed(SourcePtr base, std::map<std::string, std::string> stored, std::string prefix)
      : base_(std::move(base)), stored_(std::move(stored)), prefix_(std::move(prefix)) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [ours, stored] : stored_) {
      if (base_->info(stored)) names.push_back(ours);
    }
    return names;
  }
  std::optional<TensorInfo> info(const std::string& name) const override {
    const auto found = stored_.find(name);
    return found == stored_.end() ? std::nullopt : base_->info(found->second);
  }
  Tensor load(const std::string& name) const override { return base_->load(stored_.at(name)); }
  Tensor load(const std::string& name, at::IntArrayRef shape) const override {
    const auto found = stored_.find(name);
    return found == stored_.end() ? Tensor() : base_->load(found->second, shape);
  }
  void drop_pages(const std::string& name) const override { base_->drop_pages(stored_.at(name)); }
  std::string stored_name(const std::string& name) const override {
    const auto found = stored_.find(name);
    return base_->stored_name(found == stored_.end() ? prefix_ + name : found->second);
  }
  std::vector<std::filesystem::path> files() const override { return base_->files(); }
  std::string describe() const override { return base_->describe(); }

 private:
  SourcePtr base_;
  std::map<std::string, std::string> stored_;  // our name → the base's
  std::string prefix_;
};

}  // namespace

Tensor WeightSource::load(const std::string& name, at::IntArrayRef) const { return info(name) ? load(name) : Tensor(); }

SourcePtr renamed(SourcePtr base, std::vector<std::pair<std::string, std::string>> ours_to_stored) {
  std::map<std::string, std::string> stored;
  for (auto& [ours, theirs] : ours_to_stored) {
    TORCH_CHECK(stored.emplace(ours, std::move(theirs)).second, "two stored names for ", ours);
  }
  return std::make_shared<Renamed>(std::move(base), std::move(stored), "");
}

SourcePtr without_prefix(SourcePtr base, const std::string& prefix) {
  std::map<std::string, std::string> stored;
  FaultList faults(base->describe() + ": ", "doubled tensors");
  bool used = false;
  for (const std::string& name : base->names()) {
    const bool below = name.starts_with(prefix);
    used = used || below;
    const std::string ours = below ? name.substr(prefix.size()) : name;
    if (!stored.emplace(ours, name).second)
      faults.add("tensor " + shown_name(ours) + " is there with and without " + prefix);
  }
  faults.raise_if_any("the file mixes two layouts: get it again");
  return std::make_shared<Renamed>(std::move(base), std::move(stored), used ? prefix : "");
}

}  // namespace easel
