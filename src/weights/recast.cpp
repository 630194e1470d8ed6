#include "weights/recast.h"

namespace easel {

namespace {

using Change = Recipe::Change;

Shape shape_after(const Recipe& recipe, Shape shape) {
  switch (recipe.change) {
    case Change::kThird:
      shape[0] /= 3;
      break;
    case Change::kStack:
      shape[0] *= 3;
      break;
    case Change::kTranspose:
      std::swap(shape[0], shape[1]);
      break;
    case Change::kMatrix:
      shape.resize(2);
      break;
    case Change::kConvolution1x1:
      shape.resize(4, 1);
      break;
    case Change::kNone:
      break;
  }
  return shape;
}

class Recast : public WeightSource {
 public:
  Recast(SourcePtr base, std::map<std::string, Recipe> recipes,
         std::function<std::string(const std::string&)> stored_name)
      : base_(std::move(base)), recipes_(std::move(recipes)), stored_name_(std::move(stored_name)) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    names.reserve(recipes_.size());
    for (const auto& [name, recipe] : recipes_) names.push_back(name);
    return names;
  }

  std::optional<TensorInfo> info(const std::string& name) const override {
    const auto found = recipes_.find(name);
    if (found == recipes_.end()) return std::nullopt;
    TensorInfo info = base_->info(found->second.stored.front()).value();
    info.shape = shape_after(found->second, std::move(info.shape));
    return info;
  }

  using WeightSource::load;
  Tensor load(const std::string& name) const override {
    const Recipe& recipe = recipes_.at(name);
    const Tensor stored = base_->load(recipe.stored.front());
    switch (recipe.change) {
      case Change::kThird:
        return stored.narrow(0, recipe.third * (stored.size(0) / 3), stored.size(0) / 3);
      case Change::kStack:
        return at::cat({stored, base_->load(recipe.stored[1]), base_->load(recipe.stored[2])});
      case Change::kTranspose:
        return stored.t().contiguous();
      case Change::kMatrix:
      case Change::kConvolution1x1:
        return stored.view(shape_after(recipe, stored.sizes().vec()));
      case Change::kNone:
        break;
    }
    return stored;
  }

  void drop_pages(const std::string& name) const override {
    for (const std::string& stored : recipes_.at(name).stored) base_->drop_pages(stored);
  }
  std::string stored_name(const std::string& name) const override {
    const auto found = recipes_.find(name);
    return base_->stored_name(found == recipes_.end() ? stored_name_(name) : found->second.stored.front());
  }
  std::map<std::string, std::string> metadata() const override { return base_->metadata(); }
  std::vector<std::filesystem::path> files() const override { return base_->files(); }
  std::string describe() const override { return base_->describe(); }

 private:
  SourcePtr base_;
  std::map<std::string, Recipe> recipes_;
  std::function<std::string(const std::string&)> stored_name_;
};

}  // namespace

SourcePtr recast(SourcePtr base, std::map<std::string, Recipe> recipes,
                 std::function<std::string(const std::string&)> stored_name) {
  return std::make_shared<Recast>(std::move(base), std::move(recipes), std::move(stored_name));
}

}  // namespace easel
