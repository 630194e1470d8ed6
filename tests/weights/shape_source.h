// Names and shapes without tensors: full-size models, and files of kinds that are only told apart.
#pragma once

#include <zlib.h>

#include "weights/files.h"

namespace easel::testing {

class ShapeSource : public WeightSource {
 public:
  explicit ShapeSource(std::map<std::string, Shape> shapes, Metadata metadata = {})
      : shapes_(std::move(shapes)), metadata_(std::move(metadata)) {}

  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, shape] : shapes_) names.push_back(name);
    return names;
  }
  std::optional<TensorInfo> info(const std::string& name) const override {
    const auto found = shapes_.find(name);
    return found == shapes_.end() ? std::nullopt : std::optional(TensorInfo{found->second, at::kFloat});
  }
  using WeightSource::load;
  Tensor load(const std::string& name) const override { throw std::runtime_error(name + " has no values"); }
  Metadata metadata() const override { return metadata_; }
  std::string describe() const override { return "shapes"; }

 private:
  std::map<std::string, Shape> shapes_;
  Metadata metadata_;
};

using Shapes = std::map<std::string, Shape>;

inline SourcePtr shape_source(Shapes shapes, Metadata metadata = {}) {
  return std::make_shared<ShapeSource>(std::move(shapes), std::move(metadata));
}

inline Shapes shapes_of(const WeightSource& source) {
  Shapes shapes;
  for (const std::string& name : source.names()) shapes[name] = source.info(name)->shape;
  return shapes;
}

// A row of tests/data/golden/keys.SPEC.tsv.gz (scripts/golden/single_file_keys.py).
struct KeyRow {
  std::string part, ours;
  Shape shape;
  std::string theirs;
  Shape stored_shape;
};

inline std::string unzipped(const fs::path& file) {
  std::string text;
  const gzFile in = ::gzopen(file.c_str(), "rb");
  if (in == nullptr) throw std::runtime_error(file.string() + " cannot be opened");
  char block[1 << 16];
  for (int size = 0; (size = ::gzread(in, block, sizeof block)) > 0;)
    text.append(block, static_cast<std::size_t>(size));
  ::gzclose(in);
  return text;
}

inline Shape parsed_shape(const std::string& text) {
  Shape shape;
  std::istringstream numbers(text);
  for (std::string number; std::getline(numbers, number, ',');) shape.push_back(std::stoll(number));
  return shape;
}

inline std::vector<KeyRow> key_rows(const std::string& spec) {
  std::vector<KeyRow> rows;
  std::istringstream lines(unzipped(fs::path(EASEL_TEST_DATA) / "golden" / ("keys." + spec + ".tsv.gz")));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream cells(line);
    KeyRow row;
    std::string shape, stored_shape;
    for (std::string* cell : {&row.part, &row.ours, &shape, &row.theirs, &stored_shape})
      std::getline(cells, *cell, '\t');
    row.shape = parsed_shape(shape), row.stored_shape = parsed_shape(stored_shape);
    rows.push_back(row);
  }
  return rows;
}

// The single file, and one part of the folder.
inline Shapes single_file_shapes(const std::string& spec) {
  Shapes shapes;
  for (const KeyRow& row : key_rows(spec)) shapes[row.theirs] = row.stored_shape;
  return shapes;
}
inline Shapes folder_shapes(const std::string& spec, const std::string& part) {
  Shapes shapes;
  for (const KeyRow& row : key_rows(spec)) {
    if (row.part == part) shapes[row.ours] = row.shape;
  }
  return shapes;
}

inline json spec_config(const std::string& spec, const std::string& part) {
  return json::parse(std::ifstream(fs::path(EASEL_SOURCE_DIR) / "models/specs" / spec / (part + ".json")));
}

inline const std::vector<std::string>& listed_specs() {
  static const std::vector<std::string> specs = {"sd15", "sd15-inpainting", "sd2",         "sd2-inpainting",
                                                 "sdxl", "sdxl-inpainting", "sdxl-refiner"};
  return specs;
}

}  // namespace easel::testing
