#include "weights/pickle_builder.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace easel::pickle {

namespace {

constexpr std::size_t kMaxRank = 64;           // ATen's own limit
constexpr std::size_t kMaxCharge = 2'000'000;  // see charge()

std::string shown(const Global& global) { return shown_global(global.module, global.name); }

// A numpy scalar's bytes, little-endian.
template <class Number, class Kind>
Value number(std::string_view bytes) {
  Number value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return static_cast<Kind>(value);
}

struct NumpyType {
  std::string_view code;
  std::size_t width;
  Value (*read)(std::string_view bytes);
};
constexpr std::array kNumpyTypes = {
    NumpyType{"f8", 8, number<double, double>},   NumpyType{"f4", 4, number<float, double>},
    NumpyType{"i8", 8, number<int64_t, int64_t>}, NumpyType{"i4", 4, number<int32_t, int64_t>},
    NumpyType{"b1", 1, number<uint8_t, bool>},
};

}  // namespace

Ref Builder::add(Value value) {
  pickle_.values.push_back(std::move(value));
  return static_cast<Ref>(pickle_.values.size() - 1);
}

void Builder::fail_kind(const std::string& what, const Value& expected, Ref got) const {
  place_.fail(what + ": expected " + kind_of(expected) + ", got " + kind_of(pickle_[got]));
}

void Builder::expect_count(const Global& global, const Arguments& arguments, std::size_t least,
                           std::size_t most) const {
  if (arguments.size() >= least && arguments.size() <= most) return;
  place_.fail(shown(global) + ": expected " + std::to_string(least) + " arguments, got " +
              std::to_string(arguments.size()));
}

// An opcode of three bytes can ask for a copy of something large that is already there; copies are therefore counted
// over the whole pickle.
void Builder::charge(std::size_t count) {
  charged_ += count;
  if (charged_ > kMaxCharge) place_.refuse("copies more than " + std::to_string(kMaxCharge) + " items");
}

const Global& Builder::global(std::string_view module, std::string_view name) const {
  const Global* global = find_global(module, name);
  if (global) return *global;
  const std::string why = unsupported_tensors(module, name);
  if (!why.empty()) place_.fail(shown_global(module, name) + ": " + why);
  place_.refuse(shown_global(module, name) + " is refused: weights need no such thing, and nothing is run");
}

// Offsets, sizes and strides.
int64_t Builder::size(Ref ref, const std::string& what) {
  const auto value = get<int64_t>(ref, what);
  if (value < 0) place_.fail(what + ": " + std::to_string(value) + " is negative");
  return value;
}

Shape Builder::sizes(Ref ref, const std::string& what) {
  const auto& items = get<Tuple>(ref, what).items;
  if (items.size() > kMaxRank) place_.fail(what + ": more than " + std::to_string(kMaxRank) + " numbers");
  charge(items.size());
  Shape sizes;
  for (const Ref item : items) sizes.push_back(size(item, what));
  return sizes;
}

Ref Builder::call(Ref callee, Ref arguments) {
  const Global& global = *get<const Global*>(callee, "REDUCE");
  const Arguments& given = get<Tuple>(arguments, "REDUCE: arguments").items;
  switch (global.role) {
    case Role::kOrderedDict:
      expect_count(global, given, 0, 1);
      return ordered_dict(given);
    case Role::kSet:
      expect_count(global, given, 1, 1);
      get<List>(given[0], shown(global));
      return given[0];
    case Role::kEncode:
      expect_count(global, given, 2, 2);
      return encoded(given);
    case Role::kTensorV1:
    case Role::kTensorV2:
    case Role::kTensorV3:
      return tensor(global, given);
    case Role::kParameter:
      expect_count(global, given, 3, 3);
      get<std::unique_ptr<TensorView>>(given[0], shown(global));
      return given[0];
    case Role::kNumpyDtype:
      expect_count(global, given, 3, 3);
      get<Text>(given[0], shown(global));
      return add(Object{&global, given[0]});
    case Role::kNumpyScalar:
      expect_count(global, given, 2, 2);
      return scalar(given);
    case Role::kParameterDict:
    case Role::kStorage:
    case Role::kDtype:
    case Role::kName:
      break;
  }
  place_.refuse(shown(global) + " is called, which weights do not need");
}

Ref Builder::instance(Ref type, Ref arguments) {
  const Global& global = *get<const Global*>(type, "NEWOBJ");
  expect_count(global, get<Tuple>(arguments, "NEWOBJ: arguments").items, 0, 0);
  if (global.role == Role::kOrderedDict) return add(Dict{});
  if (global.role == Role::kParameterDict) return add(Object{&global, add(Dict{})});
  place_.refuse("an instance of " + shown(global) + " is made, which weights do not need");
}

void Builder::set_state(Ref object, Ref state) {
  Value& target = pickle_.values[object];
  if (std::holds_alternative<Dict>(target)) {  // an OrderedDict's attributes, such as state_dict()'s _metadata
    get<Dict>(state, "BUILD of a dict");
    return;
  }
  auto* instance = std::get_if<Object>(&target);
  if (!instance) place_.refuse(std::string("BUILD of ") + kind_of(target) + " is refused");
  const std::string what = "BUILD of " + shown(*instance->type);
  if (instance->type->role == Role::kNumpyDtype) {
    const auto& items = get<Tuple>(state, what).items;
    const std::string_view order = items.size() < 2 ? "" : get<Text>(items[1], what).utf8;
    if (order != "<" && order != "|")
      place_.fail(what + ": expected byte order <, got " + shown_name(std::string(order)));
    return;
  }
  const auto& items = get<Dict>(state, what).items;
  for (const auto& [key, value] : items) {
    const Text* name = std::get_if<Text>(&pickle_[key]);
    if (name && name->utf8 == "_parameters") instance->state = value;
  }
  get<Dict>(instance->state, what + ": _parameters");
}

// Python 2 gives the items as an argument, later versions by SETITEMS.
Ref Builder::ordered_dict(const Arguments& arguments) {
  Dict dict;
  if (!arguments.empty()) {
    const auto& items = get<List>(arguments[0], "collections.OrderedDict").items;
    charge(items.size());
    for (const Ref item : items) {
      const auto& pair = get<List>(item, "collections.OrderedDict: item").items;
      if (pair.size() != 2) place_.fail("collections.OrderedDict: expected pairs, got " + std::to_string(pair.size()));
      dict.items.emplace_back(pair[0], pair[1]);
    }
  }
  return add(std::move(dict));
}

Ref Builder::encoded(const Arguments& arguments) {
  const std::string_view text = get<Text>(arguments[0], "_codecs.encode").utf8;
  const std::string_view code = get<Text>(arguments[1], "_codecs.encode: encoding").utf8;
  if (code != "latin1") place_.fail("_codecs.encode: expected latin1, got " + shown_name(std::string(code)));
  charge(text.size());
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x80) {  // U+0080…U+00FF is two bytes: C2 or C3, 10xxxxxx
      const bool whole = (byte == 0xC2 || byte == 0xC3) && i + 1 < text.size() && (text[i + 1] & 0xC0) == 0x80;
      if (!whole) place_.fail("_codecs.encode: text that is not Latin-1");
      byte = static_cast<unsigned char>((byte & 0x03) << 6 | (text[++i] & 0x3F));
    }
    bytes.push_back(static_cast<char>(byte));
  }
  pickle_.encoded.push_back(std::move(bytes));
  return add(Bytes{pickle_.encoded.back()});
}

Ref Builder::scalar(const Arguments& arguments) {
  const auto& type = get<Object>(arguments[0], "numpy scalar");
  if (type.type->role != Role::kNumpyDtype) place_.fail("numpy scalar: expected a numpy.dtype");
  const std::string_view code = get<Text>(type.state, "numpy.dtype").utf8;
  const std::string_view bytes = get<Bytes>(arguments[1], "numpy scalar").bytes;
  const auto row =
      std::find_if(kNumpyTypes.begin(), kNumpyTypes.end(), [&](const NumpyType& known) { return known.code == code; });
  if (row == kNumpyTypes.end())
    place_.fail("numpy scalar: dtype " + shown_name(std::string(code)) + " is not supported");
  if (bytes.size() != row->width) {
    place_.fail("numpy scalar: expected " + std::to_string(row->width) + " bytes, got " + std::to_string(bytes.size()));
  }
  return add(row->read(bytes));
}

// ("storage", type, key, location, elements), and in the older stream a view of another storage, which torch has not
// written since 0.4: None.
Ref Builder::storage(Ref id) {
  const auto& items = get<Tuple>(id, "BINPERSID").items;
  const std::string what = "persistent id";
  if (items.size() < 5 || items.size() > 6)
    place_.fail(what + ": expected 5 items, got " + std::to_string(items.size()));
  const std::string_view kind = get<Text>(items[0], what).utf8;
  if (kind != "storage") place_.refuse(what + ": expected storage, got " + shown_name(std::string(kind)));
  const Global& type = *get<const Global*>(items[1], what);
  if (type.role != Role::kStorage) place_.refuse(what + ": " + shown(type) + " is no storage");
  if (items.size() == 6 && !std::holds_alternative<None>(pickle_[items[5]])) place_.fail(what + ": views of storages");
  const StoredDtype* dtype = find_stored_dtype(type.dtype);
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(size(items[4], what + ": elements"), dtype->width, &bytes))
    place_.fail(what + ": more elements than any file has");
  return add(std::make_unique<Storage>(Storage{dtype, get<Text>(items[2], what + ": key").utf8, bytes, {}}));
}

Ref Builder::tensor(const Global& global, const Arguments& arguments) {
  const bool v1 = global.role == Role::kTensorV1, v3 = global.role == Role::kTensorV3;
  const std::size_t least = v1 ? 4 : v3 ? 7 : 6;
  expect_count(global, arguments, least, v1 ? least : least + 1);
  const std::string what = shown(global);
  const Storage& storage = *get<std::unique_ptr<Storage>>(arguments[0], what);
  TensorView view{arguments[0], storage.dtype, size(arguments[1], what + ": offset"),
                  sizes(arguments[2], what + ": size"), sizes(arguments[3], what + ": stride")};
  if (v3) {
    const Global& dtype = *get<const Global*>(arguments[6], what + ": dtype");
    if (dtype.role != Role::kDtype) place_.fail(what + ": " + shown(dtype) + " is no dtype");
    view.dtype = find_stored_dtype(dtype.dtype);
  }
  if (arguments.size() > least && !std::holds_alternative<None>(pickle_[arguments[least]]) &&
      !get<Dict>(arguments[least], what + ": metadata").items.empty())
    place_.fail(what + ": tensors with a conjugate or negative bit are not supported");
  check_view(view, storage.bytes);
  return add(std::make_unique<TensorView>(std::move(view)));
}

void Builder::check_view(const TensorView& view, uint64_t storage_bytes) const {
  const std::string tensor = "tensor of size " + to_string(view.size);
  const auto beyond = [&] { place_.fail(tensor + " and stride " + to_string(view.stride) + " is beyond any file"); };
  if (view.size.size() != view.stride.size())
    place_.fail(tensor + " has " + std::to_string(view.stride.size()) + " strides");
  // Empty dimensions count as 1 in the product, so that ATen's own strides do not overflow.
  int64_t elements = 1, bytes = 0, last = view.offset;
  bool empty = false;
  for (std::size_t i = 0; i < view.size.size(); ++i) {
    int64_t step = 0;
    empty = empty || view.size[i] == 0;
    const int64_t size = std::max<int64_t>(view.size[i], 1);
    if (__builtin_mul_overflow(elements, size, &elements) || __builtin_mul_overflow(size - 1, view.stride[i], &step) ||
        __builtin_add_overflow(last, step, &last))
      beyond();
  }
  if (__builtin_mul_overflow(elements, view.dtype->width, &bytes)) beyond();
  const auto capacity = static_cast<int64_t>(storage_bytes / static_cast<uint64_t>(view.dtype->width));
  if (empty ? view.offset > capacity : last >= capacity) {
    place_.fail(tensor + ", stride " + to_string(view.stride) + " and offset " + std::to_string(view.offset) +
                " ends beyond its storage of " + std::to_string(capacity) + " elements");
  }
  // A stride of 0 makes a tensor of any size from one number.
  if (!empty && elements > capacity)
    place_.fail(tensor + " repeats the elements of its storage of " + std::to_string(capacity));
}

}  // namespace easel::pickle
