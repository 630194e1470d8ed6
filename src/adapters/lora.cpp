#include "easel/lora.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "adapters/lora_names.h"
#include "adapters/lora_update.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

// ---- what a file holds --------------------------------------------------------------------------------------------

struct Contents {
  std::map<std::string, LoraTensors> modules;  // by the name in the file
  std::vector<std::string> unknown;            // names of no kind
};

Contents read(const WeightSource& file, Faults& faults) {
  Contents contents;
  for (const std::string& name : file.names()) {
    const auto split = split_lora_name(name);
    if (!split) {
      contents.unknown.push_back(name);
      continue;
    }
    const Tensor tensor = file.load(name).to(at::kFloat);
    if (!tensor.isfinite().all().item<bool>())
      faults.add(file.describe() + ": " + name + ": values that are not finite");
    contents.modules[split->module][split->what] = tensor;
  }
  return contents;
}

// {"unet.lora_alpha": 8, "unet.use_rslora": true} as diffusers writes it into the file's metadata; without the part's
// name in PEFT's own.
PeftScale peft_scale(const std::map<std::string, std::string>& metadata, const std::string& part) {
  PeftScale scale;
  const auto text = metadata.find("lora_adapter_metadata");
  if (text == metadata.end()) return scale;
  const json config = json::parse(text->second, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return scale;
  for (const std::string& prefix : {part + ".", std::string()}) {
    const auto alpha = config.find(prefix + "lora_alpha"), stable = config.find(prefix + "use_rslora");
    if (alpha != config.end() && alpha->is_number() && !scale.alpha) scale.alpha = alpha->get<double>();
    if (stable != config.end() && stable->is_boolean()) scale.rank_stabilised |= stable->get<bool>();
  }
  return scale;
}

std::string title_of(const std::string& family) {
  return family == "sd1"            ? "Stable Diffusion 1.x"
         : family == "sd2"          ? "Stable Diffusion 2.x"
         : family == "sdxl"         ? "Stable Diffusion XL"
         : family == "sdxl-refiner" ? "Stable Diffusion XL's refiner"
                                    : family;
}

// ---- matching -----------------------------------------------------------------------------------------------------

using Updates = std::map<std::pair<std::string, std::string>, std::unique_ptr<const LoraUpdate>>;

class Matcher {
 public:
  Matcher(const WeightSource& file, const std::vector<LoraTarget>& targets, Faults& faults)
      : file_(file), modules_(targets), faults_(faults), metadata_(file.metadata()) {
    for (const LoraTarget& target : targets) shapes_[target.part] = &target.weights;
  }

  void match(const std::string& module, LoraTensors tensors) {
    const auto place = modules_.find(module);
    if (!place) return unmatched_.push_back(module);
    if (const auto bias = tensors.find("diff_b"); bias != tensors.end()) {
      add(module, *place, ".bias", {{"diff_b", bias->second}});
      tensors.erase(bias);
    }
    if (!tensors.empty()) add(module, *place, ".weight", tensors);
  }

  const std::vector<std::string>& unmatched() const { return unmatched_; }
  Updates take() { return std::move(updates_); }

 private:
  void add(const std::string& module, const LoraModules::Place& place, const std::string& ending,
           const LoraTensors& tensors) {
    const std::string tensor = place.module + ending, where = file_.describe() + ": " + module + ": ";
    const auto shape = shapes_.at(place.part)->find(tensor);
    if (shape == shapes_.at(place.part)->end()) return faults_.add(where + "the model has no " + tensor);
    try {
      LoraUpdate update = make_update(tensors, shape->second, peft_scale(metadata_, place.part), where);
      auto made = std::make_unique<const LoraUpdate>(std::move(update));
      if (!updates_.emplace(std::pair(place.part, tensor), std::move(made)).second)
        faults_.add(where + tensor + " is changed twice, under two names");
    } catch (const Error& error) {
      for (const std::string& fault : error.faults()) faults_.add(fault);
    }
  }

  const WeightSource& file_;
  LoraModules modules_;
  Faults& faults_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, const std::map<std::string, Shape>*> shapes_;
  std::vector<std::string> unmatched_;
  Updates updates_;
};

std::string some_of(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 20;
  std::vector<std::string> shown(names.begin(),
                                 names.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, names.size())));
  return listed(shown) + (names.size() > kShown ? ", and " + std::to_string(names.size() - kShown) + " more" : "");
}

void check_family(const WeightSource& file, const std::string& family) {
  const std::string own = identify(file).family;
  // SD 1.x and AltDiffusion share their U-Net.
  if (own.empty() || own == family || (own == "sd1" && family == "alt")) return;
  throw Error(ErrorKind::kFile,
              file.describe() + ": a LoRA for " + title_of(own) + ", and this model is " + title_of(family));
}

void raise_too_many(Faults& faults) {
  constexpr std::size_t kShown = 20;
  const std::vector<std::string>& list = faults.list();
  if (list.size() <= kShown) return faults.raise_if_any(ErrorKind::kFile);
  std::vector<std::string> shown(list.begin(), list.begin() + kShown);
  shown.push_back("and " + std::to_string(list.size() - kShown) + " more faults");
  throw Error(ErrorKind::kFile, shown);
}

}  // namespace

Lora::~Lora() = default;

std::shared_ptr<const Lora> Lora::open(const fs::path& path, const std::vector<LoraTarget>& targets,
                                       const std::string& family, bool partial) {
  const SourcePtr file = open_weights_file(path);
  check_family(*file, family);
  Faults faults;
  Contents contents = read(*file, faults);
  if (contents.modules.empty())
    throw Error(ErrorKind::kFile, path.string() + ": this is no LoRA: " + identify(*file).title);
  Matcher matcher(*file, targets, faults);
  for (auto& [module, tensors] : contents.modules) matcher.match(module, std::move(tensors));
  std::vector<std::string> unmatched = contents.unknown;
  unmatched.insert(unmatched.end(), matcher.unmatched().begin(), matcher.unmatched().end());
  const std::string said = path.string() + ": " + std::to_string(unmatched.size()) +
                           " names have no counterpart in this model: " + some_of(unmatched);
  if (!unmatched.empty() && !partial) faults.add(said + "; --lora-partial leaves them out");
  raise_too_many(faults);
  if (!unmatched.empty()) log::warn(said + "; left out");
  std::shared_ptr<Lora> lora(new Lora);
  lora->file_ = path;
  lora->updates_ = matcher.take();
  if (lora->updates_.empty()) throw Error(ErrorKind::kFile, path.string() + ": none of it is about this model");
  return lora;
}

bool Lora::changes(const std::string& part) const {
  const auto at = updates_.lower_bound({part, ""});
  return at != updates_.end() && at->first.first == part;
}

bool Lora::changes(const std::string& part, const std::string& tensor) const {
  return updates_.contains({part, tensor});
}

namespace {

// The length of each of the weight's rows or columns, as the magnitudes go.
Tensor norms(const Tensor& weight, const Tensor& magnitude) {
  std::vector<int64_t> over;
  for (int64_t d = 0; d < weight.dim(); ++d) {
    if (magnitude.size(d) == 1) over.push_back(d);
  }
  return at::linalg_vector_norm(weight, 2, over, /*keepdim=*/true);
}

}  // namespace

Tensor Lora::merged(const std::string& part, const std::string& tensor, Tensor weight, double strength) const {
  const auto found = updates_.find({part, tensor});
  if (found == updates_.end() || strength == 0) return weight;
  const LoraUpdate& update = *found->second;
  const Tensor delta = update.delta();
  if (!update.magnitude.defined()) return weight + delta * (update.scale * strength);
  const Tensor changed = weight + delta * update.scale;
  const Tensor whole = changed * (update.magnitude / norms(changed, update.magnitude));
  return weight + (whole - weight) * strength;
}

std::optional<LowRank> Lora::low_rank(const std::string& part, const std::string& tensor, double strength) const {
  const auto found = updates_.find({part, tensor});
  if (found == updates_.end() || !found->second->down.defined()) return std::nullopt;
  return LowRank{found->second->down, found->second->up, found->second->scale * strength};
}

// ---- the view -----------------------------------------------------------------------------------------------------

namespace {

class MergedSource : public WeightSource {
 public:
  MergedSource(SourcePtr base, std::string part, std::vector<AppliedLora> loras, bool beside)
      : base_(std::move(base)), part_(std::move(part)), loras_(std::move(loras)), beside_(beside) {}

  std::vector<std::string> names() const override { return base_->names(); }
  std::optional<TensorInfo> info(const std::string& name) const override {
    auto info = base_->info(name);
    if (info && is_changed(name)) info->dtype = at::kFloat;
    return info;
  }
  using WeightSource::load;
  Tensor load(const std::string& name) const override {
    const Tensor stored = base_->load(name);
    if (!is_changed(name)) return stored;
    Tensor weight = stored.to(at::kFloat);
    for (const AppliedLora& applied : loras_) weight = applied.lora->merged(part_, name, weight, applied.strength);
    return weight;
  }
  std::vector<LowRank> beside(const std::string& name) const override {
    std::vector<LowRank> changes;
    if (!beside_) return changes;
    for (const AppliedLora& applied : loras_) {
      if (applied.strength == 0 || !applied.lora->changes(part_, name)) continue;
      auto change = applied.lora->low_rank(part_, name, applied.strength);
      if (!change) return {};
      changes.push_back(std::move(*change));
    }
    return changes;
  }
  Tensor load_unchanged(const std::string& name, at::IntArrayRef shape) const override {
    return base_->load(name, shape);
  }
  void drop_pages(const std::string& name) const override { base_->drop_pages(name); }
  std::string stored_name(const std::string& name) const override { return base_->stored_name(name); }
  std::map<std::string, std::string> metadata() const override { return base_->metadata(); }
  std::vector<fs::path> files() const override { return base_->files(); }
  std::string describe() const override { return base_->describe(); }

 private:
  bool is_changed(const std::string& name) const {
    return std::any_of(loras_.begin(), loras_.end(), [&](const AppliedLora& applied) {
      return applied.strength != 0 && applied.lora->changes(part_, name);
    });
  }

  SourcePtr base_;
  std::string part_;
  std::vector<AppliedLora> loras_;
  bool beside_;
};

std::optional<double> strength_of(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

}  // namespace

SourcePtr with_loras(SourcePtr base, std::string part, std::vector<AppliedLora> loras, bool beside) {
  std::erase_if(loras, [&](const AppliedLora& applied) { return !applied.lora->changes(part); });
  if (loras.empty()) return base;
  return std::make_shared<MergedSource>(std::move(base), std::move(part), std::move(loras), beside);
}

// ---- naming files -------------------------------------------------------------------------------------------------

LoraChoice parse_lora(std::string_view text) {
  std::vector<double> numbers;
  while (numbers.size() < 2) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0) break;
    const auto number = strength_of(text.substr(colon + 1));
    if (!number) break;
    numbers.insert(numbers.begin(), *number);
    text = text.substr(0, colon);
  }
  LoraChoice choice{std::string(text)};
  if (!numbers.empty()) choice.unet = choice.text_encoder = numbers.front();
  if (numbers.size() == 2) choice.text_encoder = numbers.back();
  return choice;
}

std::multimap<std::string, fs::path> loras_in(const fs::path& folder) {
  static const std::set<std::string> kExtensions = {".safetensors", ".pt", ".bin", ".ckpt"};
  std::multimap<std::string, fs::path> found;
  std::error_code error;
  fs::recursive_directory_iterator entries(folder, fs::directory_options::follow_directory_symlink, error);
  if (error) throw Error(ErrorKind::kFile, folder.string() + ": cannot be read as a folder: " + error.message());
  for (; entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    if (error) throw Error(ErrorKind::kFile, folder.string() + ": cannot be read: " + error.message());
    if (entries->is_regular_file(error) && kExtensions.contains(entries->path().extension().string()))
      found.emplace(entries->path().stem().string(), entries->path());
  }
  return found;
}

}  // namespace easel
