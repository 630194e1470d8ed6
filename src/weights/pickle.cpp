#include "weights/pickle.h"

#include <array>

#include "easel/core.h"
#include "weights/safetensors_header.h"

namespace easel::pickle {

const char* kind_of(const Value& value) {
  constexpr std::array<const char*, std::variant_size_v<Value>> kKinds = {
      "None",    "a truth value", "a whole number", "a number", "text",      "bytes",     "a long number", "a list",
      "a tuple", "a set",         "a dict",         "a class",  "an object", "a storage", "a tensor"};
  return kKinds[value.index()];
}

const Value* Pickle::find(const Dict& dict, std::string_view key) const {
  for (const auto& [name, value] : dict.items) {
    const Text* text = std::get_if<Text>(&values[name]);
    if (text && text->utf8 == key) return &values[value];
  }
  return nullptr;
}

void Place::fail(const std::string& fault) const {
  throw Error(ErrorKind::kFile, file + ", byte " + std::to_string(byte) + ": " + fault, kDamagedFile);
}

void Place::refuse(const std::string& fault) const {
  throw Error(ErrorKind::kFile, file + ", byte " + std::to_string(byte) + ": " + fault,
              "the file holds more than weights, perhaps a program: get the model as .safetensors");
}

}  // namespace easel::pickle
