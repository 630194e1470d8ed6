#include "weights/sharded.h"

#include <fstream>

#include "weights/dtypes.h"
#include "weights/fault_list.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

constexpr const char* kHint = "get this part of the model again";

json read_index(const fs::path& file) {
  constexpr std::uintmax_t kLargest = 64 << 20;
  std::error_code error;
  const std::uintmax_t size = fs::file_size(file, error);
  if (error) throw Error(ErrorKind::kFile, file.string() + ": " + error.message());
  if (size > kLargest) throw Error(ErrorKind::kFile, file.string() + ": larger than any index is", kHint);
  std::ifstream in(file, std::ios::binary);
  json index = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (index.is_discarded()) throw Error(ErrorKind::kFile, file.string() + ": not JSON", kHint);
  return index;
}

// A file beside the index: nothing that leads out of the folder.
bool is_plain_name(const std::string& name) {
  return (name.ends_with(".safetensors") || name.ends_with(".bin")) &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

// Tensor name → shard name.
std::map<std::string, std::string> read_weight_map(const fs::path& file) {
  const json index = read_index(file);
  const auto found = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || found == index.end() || !found->is_object())
    throw Error(ErrorKind::kFile, file.string() + ": expected an object \"weight_map\" of tensor: shard", kHint);
  std::map<std::string, std::string> map;
  FaultList faults(file.string() + ": ", "bad entries");
  for (const auto& [name, shard] : found->items()) {
    if (!shard.is_string()) {
      faults.add("weight_map: " + shown_name(name) + ": expected a file name, got " + shard.type_name());
    } else if (const auto text = shard.get<std::string>(); !is_plain_name(text)) {
      faults.add("weight_map: " + shown_name(name) + ": expected the plain name of a .safetensors or .bin file, got " +
                 shown_name(text));
    } else {
      map.emplace(name, text);
    }
  }
  faults.raise_if_any(kHint);
  return map;
}

class Sharded : public WeightSource {
 public:
  explicit Sharded(const fs::path& index) : index_(index) {
    const std::map<std::string, std::string> weight_map = read_weight_map(index);
    std::map<std::string, SourcePtr> shards;
    FaultList faults(index.string() + ": ", "misplaced tensors");
    for (const auto& [name, shard] : weight_map) {
      SourcePtr& source = shards[shard];
      if (!source) source = open_weights_file(index.parent_path() / shard);
      if (!source->info(name)) faults.add("tensor " + shown_name(name) + " is not in " + shard);
    }
    for (const auto& [shard, source] : shards) {
      shards_.push_back(source);
      for (const std::string& name : source->names()) {
        if (!home_.emplace(name, source).second)
          faults.add("tensor " + shown_name(name) + " is in two shards, one of them " + shard);
      }
    }
    faults.raise_if_any(kHint);
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    names.reserve(home_.size());
    for (const auto& [name, shard] : home_) names.push_back(name);
    return names;
  }
  std::optional<TensorInfo> info(const std::string& name) const override {
    const auto found = home_.find(name);
    return found == home_.end() ? std::nullopt : found->second->info(name);
  }
  using WeightSource::load;
  Tensor load(const std::string& name) const override { return home_.at(name)->load(name); }
  void drop_pages(const std::string& name) const override { home_.at(name)->drop_pages(name); }
  std::vector<fs::path> files() const override {
    std::vector<fs::path> files;
    for (const SourcePtr& shard : shards_) {
      for (const fs::path& file : shard->files()) files.push_back(file);
    }
    return files;
  }
  std::string describe() const override { return index_.string(); }

 private:
  fs::path index_;
  std::vector<SourcePtr> shards_;          // by name
  std::map<std::string, SourcePtr> home_;  // tensor → its shard
};

}  // namespace

SourcePtr open_sharded(const fs::path& index) { return std::make_shared<Sharded>(index); }

}  // namespace easel
