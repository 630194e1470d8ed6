// A Python pickle as a tree of plain values. Nothing is run to read it: a closed list of opcodes builds values, and of
// the classes and functions that a pickle can name only those of pickle_globals.cpp are known, each of them as a rule
// of pickle_builder.cpp. Protocols 2 to 5 (https://github.com/python/cpython/blob/main/Lib/pickletools.py).
#pragma once

#include <deque>
#include <variant>

#include "weights/dtypes.h"
#include "weights/pickle_globals.h"

namespace easel::pickle {

// The place of a value in Pickle::values. Values name each other so, not by pointers: a pickle may build rings.
using Ref = uint32_t;

struct None {};
struct Text {
  std::string_view utf8;  // as the file has it, unchecked
};
struct Bytes {
  std::string_view bytes;
};
struct Long {  // a number of more than 64 bits
  std::string_view bytes;
};
struct List {
  std::vector<Ref> items;
};
struct Tuple {
  std::vector<Ref> items;
};
struct Set {
  std::vector<Ref> items;
};
struct Dict {
  std::vector<std::pair<Ref, Ref>> items;  // in the file's order; a key may come twice
};
// An instance of a class that is kept as its state.
struct Object {
  const Global* type;
  Ref state;
};
struct Storage {
  const StoredDtype* dtype;
  std::string_view key;
  uint64_t bytes;
  std::string_view data;  // of that size; set by the container's reader
};
// Its elements lie within the storage, and there are no more of them than the storage has.
struct TensorView {
  Ref storage;
  const StoredDtype* dtype;
  int64_t offset;  // elements, as the strides
  Shape size, stride;
};

using Value = std::variant<None, bool, int64_t, double, Text, Bytes, Long, List, Tuple, Set, Dict, const Global*,
                           Object, std::unique_ptr<Storage>, std::unique_ptr<TensorView>>;

// "a list", for messages.
const char* kind_of(const Value& value);

struct Pickle {
  std::deque<Value> values;         // grows without moving what is there
  std::deque<std::string> encoded;  // bytes that the file spells as text
  Ref root = 0;
  std::size_t end = 0;  // the byte behind STOP

  const Value& operator[](Ref ref) const { return values[ref]; }
  const Value& top() const { return values[root]; }
  // The value of a text key; null where there is none.
  const Value* find(const Dict& dict, std::string_view key) const;
};

// Where a pickle is being read, for messages.
struct Place {
  std::string file;  // and part of it
  std::size_t byte = 0;

  [[noreturn]] void fail(const std::string& fault) const;    // the file is damaged
  [[noreturn]] void refuse(const std::string& fault) const;  // the file is more than weights
};

// The pickle that begins at byte `begin`. Its texts are views of `bytes`. Memory stays below some 200 MB whatever the
// file says: opcodes are counted, and nothing grows by more than an opcode's bytes. Throws Error(kFile) with `where`,
// the byte and the opcode or global that is refused.
Pickle read_pickle(std::string_view bytes, std::size_t begin, const std::string& where);

}  // namespace easel::pickle
