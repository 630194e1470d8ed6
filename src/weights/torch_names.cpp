#include "weights/torch_names.h"

#include "easel/core.h"
#include "weights/safetensors_header.h"

namespace easel {

namespace {

using namespace pickle;

// Dicts can be shared, so a small file can spell a tree without end.
constexpr std::size_t kMaxDepth = 32, kMaxVisits = 2'000'000, kMaxTensors = 100'000, kMaxName = 1000, kMaxWords = 1000;

// The JSON library checks what it writes.
bool is_utf8(const std::string& text) {
  try {
    static_cast<void>(json(text).dump());
    return true;
  } catch (const json::type_error&) {
    return false;
  }
}

class Reader {
 public:
  Reader(const Pickle& object, const std::string& where) : object_(object), where_(where) {}

  TorchContents contents() {
    const auto* root = std::get_if<Dict>(&object_.top());
    if (!root) fail(std::string("expected a dict of tensors, got ") + kind_of(object_.top()));
    read_metadata(*root);
    const Value* state = object_.find(*root, "state_dict");
    visit(state && std::holds_alternative<Dict>(*state) ? *state : object_.top(), "", 0);
    if (contents_.tensors.empty()) fail("holds no tensors");
    return std::move(contents_);
  }

 private:
  [[noreturn]] void fail(const std::string& fault) const {
    throw Error(ErrorKind::kFile, where_ + ": " + fault, "get the model as .safetensors");
  }

  void visit(const Value& value, const std::string& name, std::size_t depth) {
    if (++visits_ > kMaxVisits || depth > kMaxDepth || name.size() > kMaxName)
      fail("nested beyond any checkpoint, at " + shown_name(name));
    if (const auto* view = std::get_if<std::unique_ptr<TensorView>>(&value)) return add(name, **view);
    const std::string begin = name.empty() ? "" : name + ".";
    if (const auto* dict = std::get_if<Dict>(&value)) {
      for (const auto& [key, item] : dict->items) visit(object_[item], begin + key_name(object_[key]), depth + 1);
    } else if (const auto* list = std::get_if<List>(&value)) {
      visit_items(list->items, begin, depth);
    } else if (const auto* tuple = std::get_if<Tuple>(&value)) {
      visit_items(tuple->items, begin, depth);
    } else if (const auto* instance = std::get_if<Object>(&value)) {
      visit(object_[instance->state], name, depth + 1);
    }
  }

  void visit_items(const std::vector<Ref>& items, const std::string& begin, std::size_t depth) {
    for (std::size_t i = 0; i < items.size(); ++i) visit(object_[items[i]], begin + std::to_string(i), depth + 1);
  }

  std::string key_name(const Value& key) const {
    if (const auto* number = std::get_if<int64_t>(&key)) return std::to_string(*number);
    const auto* text = std::get_if<Text>(&key);
    if (!text) fail(std::string("expected text as the name of a tensor, got ") + kind_of(key));
    if (text->utf8.size() > kMaxName) fail("a name of " + std::to_string(text->utf8.size()) + " bytes");
    return std::string(text->utf8);
  }

  void add(const std::string& name, const TensorView& view) {
    const auto fail_tensor = [&](const std::string& fault) { fail("tensor " + shown_name(name) + ": " + fault); };
    if (name.empty() || !is_utf8(name)) fail_tensor("not a name");
    if (contents_.tensors.size() == kMaxTensors) fail("more than " + std::to_string(kMaxTensors) + " tensors");
    const StridedTensor tensor = {view.dtype, view.size, view.stride, data_of(view)};
    if (!contents_.tensors.emplace(name, tensor).second) fail_tensor("the name is given twice");
  }

  // From the first element to the last; the builder of the view has checked that they are there.
  std::string_view data_of(const TensorView& view) const {
    int64_t last = 0;
    for (std::size_t i = 0; i < view.size.size(); ++i) {
      if (view.size[i] == 0) return {};
      last += (view.size[i] - 1) * view.stride[i];
    }
    const auto& storage = *std::get<std::unique_ptr<Storage>>(object_[view.storage]);
    return storage.data.substr(static_cast<std::size_t>(view.offset * view.dtype->width),
                               static_cast<std::size_t>((last + 1) * view.dtype->width));
  }

  void read_metadata(const Dict& root) {
    for (const auto& [key, value] : root.items) {
      const auto* name = std::get_if<Text>(&object_[key]);
      const std::optional<std::string> words = words_of(object_[value]);
      if (!name || !words || name->utf8.size() > kMaxName || words->size() > kMaxName) continue;
      if (!is_utf8(std::string(name->utf8)) || !is_utf8(*words)) continue;
      if (contents_.metadata.size() == kMaxWords) fail("more than " + std::to_string(kMaxWords) + " words and numbers");
      contents_.metadata.emplace(name->utf8, *words);
    }
  }

  static std::optional<std::string> words_of(const Value& value) {
    if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
    if (const auto* whole = std::get_if<int64_t>(&value)) return std::to_string(*whole);
    if (const auto* number = std::get_if<double>(&value)) return plain(*number);
    if (const auto* text = std::get_if<Text>(&value)) return std::string(text->utf8.substr(0, kMaxName + 1));
    return std::nullopt;
  }

  const Pickle& object_;
  const std::string& where_;
  TorchContents contents_;
  std::size_t visits_ = 0;
};

}  // namespace

TorchContents torch_contents(const Pickle& object, const std::string& where) {
  return Reader(object, where).contents();
}

}  // namespace easel
