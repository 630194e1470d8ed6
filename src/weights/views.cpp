#include "easel/weights.h"
#include "weights/dtypes.h"
#include "weights/fault_list.h"
#include "weights/recast.h"

namespace easel {

Tensor WeightSource::load(const std::string& name, at::IntArrayRef) const { return info(name) ? load(name) : Tensor(); }

SourcePtr without_prefix(SourcePtr base, const std::string& prefix) {
  std::map<std::string, Recipe> recipes;
  FaultList faults(base->describe() + ": ", "doubled tensors");
  bool used = false;
  for (const std::string& name : base->names()) {
    const bool below = name.starts_with(prefix);
    used = used || below;
    const std::string ours = below ? name.substr(prefix.size()) : name;
    if (!recipes.emplace(ours, Recipe{{name}}).second)
      faults.add("tensor " + shown_name(ours) + " is there with and without " + prefix);
  }
  faults.raise_if_any("the file mixes two layouts: get it again");
  return recast(std::move(base), std::move(recipes),
                [begin = used ? prefix : ""](const std::string& name) { return begin + name; });
}

// ---- in memory, joined, filtered -----------------------------------------------------------------------------------

namespace {

class InMemory : public WeightSource {
 public:
  InMemory(std::map<std::string, Tensor> tensors, std::string describe)
      : tensors_(std::move(tensors)), describe_(std::move(describe)) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  std::optional<TensorInfo> info(const std::string& name) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return std::nullopt;
    return TensorInfo{found->second.sizes().vec(), found->second.scalar_type()};
  }
  using WeightSource::load;
  Tensor load(const std::string& name) const override { return tensors_.at(name); }
  std::string describe() const override { return describe_; }

 private:
  std::map<std::string, Tensor> tensors_;
  std::string describe_;
};

// Several sources as one, or the accepted part of one.
class Chosen : public WeightSource {
 public:
  Chosen(std::vector<SourcePtr> sources, std::map<std::string, SourcePtr> home)
      : sources_(std::move(sources)), home_(std::move(home)) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, source] : home_) names.push_back(name);
    return names;
  }
  std::optional<TensorInfo> info(const std::string& name) const override {
    const auto found = home_.find(name);
    return found == home_.end() ? std::nullopt : found->second->info(name);
  }
  using WeightSource::load;
  Tensor load(const std::string& name) const override { return home_.at(name)->load(name); }
  void drop_pages(const std::string& name) const override { home_.at(name)->drop_pages(name); }
  std::string stored_name(const std::string& name) const override {
    const auto found = home_.find(name);
    return found == home_.end() ? name : found->second->stored_name(name);
  }
  std::map<std::string, std::string> metadata() const override {
    return sources_.size() == 1 ? sources_.front()->metadata() : std::map<std::string, std::string>();
  }
  std::vector<std::filesystem::path> files() const override {
    std::vector<std::filesystem::path> files;
    for (const SourcePtr& source : sources_) {
      for (const auto& file : source->files()) files.push_back(file);
    }
    return files;
  }
  std::string describe() const override { return sources_.empty() ? "nothing" : sources_.front()->describe(); }

 private:
  std::vector<SourcePtr> sources_;
  std::map<std::string, SourcePtr> home_;  // tensor → its source
};

}  // namespace

SourcePtr tensor_source(const std::vector<std::pair<std::string, Tensor>>& tensors, std::string describe) {
  std::map<std::string, Tensor> by_name;
  for (const auto& [name, tensor] : tensors) {
    TORCH_CHECK(by_name.emplace(name, tensor).second, "tensor ", name, " is given twice");
  }
  return std::make_shared<InMemory>(std::move(by_name), std::move(describe));
}

SourcePtr joined(std::vector<SourcePtr> sources) {
  std::map<std::string, SourcePtr> home;
  for (const SourcePtr& source : sources) {
    for (const std::string& name : source->names()) {
      const auto [place, added] = home.emplace(name, source);
      if (!added)
        throw Error(ErrorKind::kFile, "tensor " + shown_name(name) + " is in " + place->second->describe() +
                                          " and in " + source->describe());
    }
  }
  return std::make_shared<Chosen>(std::move(sources), std::move(home));
}

SourcePtr filtered(SourcePtr base, const std::function<bool(const std::string&)>& keep) {
  std::map<std::string, SourcePtr> home;
  for (const std::string& name : base->names()) {
    if (keep(name)) home.emplace(name, base);
  }
  return std::make_shared<Chosen>(std::vector{std::move(base)}, std::move(home));
}

}  // namespace easel
