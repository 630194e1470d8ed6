// Reference data of tests/data (see scripts/golden/README.md): tiny models whose weights are a function of their names,
// and what diffusers computes with them.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iostream>

#include "easel/weights.h"

namespace easel::testing {

inline std::filesystem::path data(const std::string& name) { return std::filesystem::path(EASEL_TEST_DATA) / name; }

inline json read(const std::filesystem::path& file) { return json::parse(std::ifstream(file)); }

// A part's config.json of tests/data/models/MODEL.
inline json config(const std::string& model, const std::string& part) {
  return read(data("models/" + model + "/" + part + "/config.json"));
}

// The random weights of one part, under the names its networks ask for.
inline Weights weights(const std::string& part, at::ScalarType dtype = at::kFloat) {
  const std::string prefix = part == "text_encoder" ? "text_encoder/text_model." : part + "/";
  return Weights(random_source(prefix, /*seed=*/0, at::kFloat), at::kCPU, dtype);
}

// The published name of one of our names: text encoders carry `text_model.` before all but their projection.
inline std::string published_key(const std::string& part, const std::string& ours) {
  return part.starts_with("text_encoder") && !ours.starts_with("text_projection.") ? "text_model." + ours : ours;
}

inline SourcePtr stages(const std::string& model) {
  return open_safetensors(data("golden/" + model + ".stages.safetensors"));
}

inline const std::vector<std::string>& tiny_models() {
  static const std::vector<std::string> names = {"sd1", "sd1-linear", "sd1-odd"};
  return names;
}

// Largest difference relative to the largest value of the reference.
inline double relative_difference(const Tensor& got, const Tensor& want) {
  if (!got.sizes().equals(want.sizes())) return std::numeric_limits<double>::infinity();
  return ((got - want).abs().max() / want.abs().max()).item<double>();
}

// The tolerance of every stage against diffusers, relative, in f32.
constexpr double kStageTolerance = 1e-4;

inline void expect_stage(const std::string& what, const Tensor& got, const Tensor& want) {
  ASSERT_EQ(to_string(got.sizes()), to_string(want.sizes())) << what;
  const double difference = relative_difference(got, want);
  std::cout << what << ": largest relative difference " << difference << "\n";
  EXPECT_LE(difference, kStageTolerance) << what;
  EXPECT_GT(want.std().item<double>(), 0.01) << what << ": a flat reference agrees with anything";
}

}  // namespace easel::testing
