// PyTorch checkpoints made by hand: pickles opcode by opcode, zip files field by field.
#pragma once

#include "weights/files.h"

namespace easel::testing {

using namespace std::string_literals;

template <class Number>
std::string little(Number value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// ---- pickles ----

inline const std::string kProto = "\x80\x02", kNone = "N", kFalse = "\x89", kReduce = "R", kStop = ".";

inline std::string text(const std::string& utf8) { return "X" + little(static_cast<uint32_t>(utf8.size())) + utf8; }
inline std::string number(int32_t value) { return "J" + little(value); }
inline std::string number64(int64_t value) { return "\x8a\x08" + little(value); }
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(const std::string& items) { return "(" + items + "t"; }
inline std::string list(const std::string& items) { return "](" + items + "e"; }
inline std::string dict(const std::string& items) { return "}(" + items + "u"; }
inline std::string call(const std::string& function, const std::string& arguments) {
  return function + tuple(arguments) + kReduce;
}
inline std::string numbers(const std::vector<int64_t>& values) {
  std::string items;
  for (const int64_t value : values) items += number64(value);
  return tuple(items);
}
inline const std::string kOrderedDict = global("collections", "OrderedDict") + ")R";

inline std::string storage(const std::string& type, const std::string& key, int64_t count) {
  return tuple(text("storage") + global("torch", type) + text(key) + text("cpu") + number64(count)) + "Q";
}

struct View {
  std::string type = "FloatStorage";
  std::string key = "0";
  int64_t count = 2;  // of the storage
  int64_t offset = 0;
  std::vector<int64_t> size = {2}, stride = {1};
};
inline std::string tensor(const View& view = {}) {
  return call(global("torch._utils", "_rebuild_tensor_v2"), storage(view.type, view.key, view.count) +
                                                                number64(view.offset) + numbers(view.size) +
                                                                numbers(view.stride) + kFalse + kOrderedDict);
}
// A whole pickle: {"a": value}.
inline std::string holding(const std::string& value) { return kProto + dict(text("a") + value) + kStop; }

// ---- zip files ----

struct Entry {
  std::string name, data = {};
  uint16_t method = 0, flags = 0;
  std::string extra = {};                                             // of the directory
  std::optional<uint32_t> size = {}, stored = {}, local_offset = {};  // what the directory says, where it is not so
  std::optional<std::string> local_name = {};
  std::optional<uint32_t> local_size = {};
};

inline std::string local_header(const Entry& entry) {
  const auto size = entry.local_size.value_or(static_cast<uint32_t>(entry.data.size()));
  const std::string name = entry.local_name.value_or(entry.name);
  return "PK\x03\x04" + little<uint16_t>(20) + little(entry.flags) + little(entry.method) + std::string(8, '\0') +
         little(size) + little(size) + little(static_cast<uint16_t>(name.size())) + little<uint16_t>(0) + name;
}

inline std::string directory_entry(const Entry& entry, std::size_t offset) {
  const auto size = static_cast<uint32_t>(entry.data.size());
  return "PK\x01\x02" + little<uint16_t>(20) + little<uint16_t>(20) + little(entry.flags) + little(entry.method) +
         std::string(8, '\0') + little(entry.stored.value_or(size)) + little(entry.size.value_or(size)) +
         little(static_cast<uint16_t>(entry.name.size())) + little(static_cast<uint16_t>(entry.extra.size())) +
         std::string(10, '\0') + little(entry.local_offset.value_or(static_cast<uint32_t>(offset))) + entry.name +
         entry.extra;
}

struct Zip {
  std::string entries, directory;
  uint16_t count = 0;

  void add(const Entry& entry) {
    directory += directory_entry(entry, entries.size());
    entries += local_header(entry) + entry.data;
    ++count;
  }
  std::string end() const {
    return end(static_cast<uint32_t>(directory.size()), static_cast<uint32_t>(entries.size()));
  }
  std::string end(uint32_t size, uint32_t offset) const {
    return "PK\x05\x06" + little<uint32_t>(0) + little(count) + little(count) + little(size) + little(offset) +
           little<uint16_t>(0);
  }
  std::string bytes() const { return entries + directory + end(); }
};

inline std::string zip(const std::vector<Entry>& entries) {
  Zip zip;
  for (const Entry& entry : entries) zip.add(entry);
  return zip.bytes();
}

// A checkpoint whose storage "0" holds 1 and 2 in float32.
inline const std::string kOneTwo = little(1.0F) + little(2.0F);
inline std::vector<Entry> checkpoint(const std::string& pickle, const std::string& data = kOneTwo) {
  return {{.name = "archive/data.pkl", .data = pickle}, {.name = "archive/data/0", .data = data}};
}

// ---- the older stream ----

inline const std::string kMagic = kProto + "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
inline std::string preamble(const std::string& little_endian = "\x88") {
  return kMagic + kProto + "M\xe9\x03." + kProto + dict(text("little_endian") + little_endian) + kStop;
}
inline std::string stream(const std::string& pickle, const std::string& keys = list(text("0")),
                          const std::string& data = little<int64_t>(2) + kOneTwo) {
  return preamble() + pickle + kProto + keys + kStop + data;
}

struct Hostile {
  std::string name;     // of the test's row
  std::string bytes;    // of the file, or of its pickle
  std::string message;  // part of what is said
};

}  // namespace easel::testing
