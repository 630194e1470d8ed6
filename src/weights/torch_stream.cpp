#include <cstring>

#include "easel/core.h"
#include "weights/safetensors_header.h"
#include "weights/torch_containers.h"

namespace easel {

namespace {

using pickle::Pickle;

// 0x1950a86a20f9469cfc6c and the format's version, as torch/serialization.py has them.
constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr int64_t kProtocol = 1001;

class Stream {
 public:
  Stream(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  Pickle object() {
    check_preamble();
    Pickle object = next();
    read_storages(object, next());
    return object;
  }

 private:
  using Storages = std::multimap<std::string_view, pickle::Storage*>;

  [[noreturn]] void fail(const std::string& fault) const {
    throw Error(ErrorKind::kFile, where_ + ": " + fault, kDamagedFile);
  }

  Pickle next() {
    Pickle pickle = pickle::read_pickle(bytes_, position_, where_);
    position_ = pickle.end;
    return pickle;
  }

  void check_preamble() {
    const Pickle magic = next();
    const auto* number = std::get_if<pickle::Long>(&magic.top());
    if (!number || number->bytes != kMagic) {
      throw Error(ErrorKind::kFile,
                  where_ + ": a pickle, but not one of torch.save: it begins with " + pickle::kind_of(magic.top()) +
                      ", not with torch's magic number",
                  "get the model as .safetensors");
    }
    const Pickle protocol = next();
    const auto* version = std::get_if<int64_t>(&protocol.top());
    if (!version || *version != kProtocol) fail("expected format " + std::to_string(kProtocol));
    const Pickle machine = next();
    const auto* facts = std::get_if<pickle::Dict>(&machine.top());
    const pickle::Value* little = facts ? machine.find(*facts, "little_endian") : nullptr;
    const auto* is_little = little ? std::get_if<bool>(little) : nullptr;
    if (!is_little || !*is_little) fail("written by a big-endian machine");
  }

  void read_storages(Pickle& object, const Pickle& keys) {
    Storages storages;
    for (pickle::Value& value : object.values) {
      const auto* storage = std::get_if<std::unique_ptr<pickle::Storage>>(&value);
      if (storage) storages.emplace((*storage)->key, storage->get());
    }
    const auto* list = std::get_if<pickle::List>(&keys.top());
    if (!list) fail("expected a list of storage keys, got " + std::string(pickle::kind_of(keys.top())));
    for (const pickle::Ref ref : list->items) {
      const auto* key = std::get_if<pickle::Text>(&keys[ref]);
      if (!key) fail("expected text as a storage key, got " + std::string(pickle::kind_of(keys[ref])));
      const auto range = storages.equal_range(key->utf8);
      const std::string name = "storage " + shown_name(std::string(key->utf8));
      if (range.first == range.second) fail(name + " belongs to no tensor, or comes twice");
      read_storage(name, range.first, range.second);
      storages.erase(range.first, range.second);
    }
    if (!storages.empty()) fail("storage " + shown_name(std::string(storages.begin()->first)) + " has no data");
    if (position_ != bytes_.size())
      fail(std::to_string(bytes_.size() - position_) + " bytes at the file's end belong to no storage");
  }

  // The count of elements, of the type that names the storage first, and the elements; for all that share the key.
  void read_storage(const std::string& name, Storages::iterator begin, Storages::iterator end) {
    const uint64_t bytes = begin->second->bytes, expected = bytes / static_cast<uint64_t>(begin->second->dtype->width);
    uint64_t count = 0;
    if (bytes_.size() - position_ < sizeof count) fail("ends before " + name);
    std::memcpy(&count, bytes_.data() + position_, sizeof count);
    position_ += sizeof count;
    if (count != expected)
      fail(name + " has " + std::to_string(count) + " elements, its tensors say " + std::to_string(expected));
    if (bytes > bytes_.size() - position_) fail("ends inside " + name);
    for (auto storage = begin; storage != end; ++storage) {
      if (storage->second->bytes != bytes) fail(name + " is given two sizes");
      storage->second->data = bytes_.substr(position_, bytes);
    }
    position_ += bytes;
  }

  std::string_view bytes_;
  const std::string& where_;
  std::size_t position_ = 0;
};

}  // namespace

Pickle read_torch_stream(std::string_view bytes, const std::string& where) { return Stream(bytes, where).object(); }

}  // namespace easel
