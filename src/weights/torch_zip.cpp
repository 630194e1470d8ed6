#include "easel/core.h"
#include "weights/safetensors_header.h"
#include "weights/torch_containers.h"
#include "weights/zip_directory.h"

namespace easel {

namespace {

class Archive {
 public:
  Archive(std::string_view bytes, const std::string& where) : where_(where) {
    for (const ZipEntry& entry : read_zip(bytes, where)) {
      // Every entry lies in one folder, whose name is the first file's.
      const std::size_t slash = entry.name.find('/');
      const std::string_view folder = slash == entry.name.npos ? "" : entry.name.substr(0, slash);
      if (entries_.empty()) folder_ = folder;
      if (folder.empty() || folder != folder_)
        fail("entry " + shown_name(std::string(entry.name)) + " is not in the folder of the first entry");
      entries_.emplace(entry.name.substr(slash + 1), entry);
    }
  }

  bool has(std::string_view name) const { return entries_.contains(name); }
  // The entry's bytes. torch.save compresses nothing, so there is nothing to inflate and no bomb.
  std::optional<std::string_view> find(std::string_view name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) return std::nullopt;
    const auto& [path, data, method] = found->second;
    if (method != 0) {
      fail("entry " + shown_name(std::string(path)) + ": compressed (method " + std::to_string(method) +
               "), which torch.save does not do",
           "save the state dict again with torch.save, or get the model as .safetensors");
    }
    return data;
  }
  std::string path(std::string_view name) const { return folder_ + "/" + std::string(name); }

  [[noreturn]] void fail(const std::string& fault, const char* hint = kDamagedFile) const {
    throw Error(ErrorKind::kFile, where_ + ": " + fault, hint);
  }

 private:
  const std::string& where_;
  std::string folder_;
  std::map<std::string_view, ZipEntry> entries_;
};

void check_kind(const Archive& archive) {
  const char* hint = "get the model as .safetensors, or save its state dict with torch.save";
  if (archive.has("constants.pkl")) archive.fail("a TorchScript program, not a file of weights", hint);
  const std::string_view order = archive.find("byteorder").value_or("little");  // since torch 2.1
  if (order != "little") archive.fail("byteorder is " + shown_name(std::string(order)) + ", expected little", hint);
  if (!archive.has("data.pkl")) archive.fail("a zip without data.pkl is no PyTorch checkpoint");
}

void find_data(const Archive& archive, pickle::Storage& storage) {
  const std::string name = "data/" + std::string(storage.key);
  const auto data = archive.find(name);
  if (!data) archive.fail("storage " + shown_name(std::string(storage.key)) + " has no entry in the file");
  if (data->size() != storage.bytes) {
    archive.fail("entry " + shown_name(archive.path(name)) + " has " + std::to_string(data->size()) +
                 " bytes, its storage " + std::to_string(storage.bytes));
  }
  storage.data = *data;
}

}  // namespace

pickle::Pickle read_torch_zip(std::string_view bytes, const std::string& where) {
  const Archive archive(bytes, where);
  check_kind(archive);
  pickle::Pickle object =
      pickle::read_pickle(*archive.find("data.pkl"), 0, where + ": " + shown_name(archive.path("data.pkl")));
  for (pickle::Value& value : object.values) {
    if (const auto* storage = std::get_if<std::unique_ptr<pickle::Storage>>(&value)) find_data(archive, **storage);
  }
  return object;
}

}  // namespace easel
