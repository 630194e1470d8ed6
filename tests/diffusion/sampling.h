// What the tests of this room share.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "easel/diffusion.h"

namespace easel {

inline SchedulerConfig config_of(const json& fields) {
  return SchedulerConfig::from_json(fields, "model/scheduler_config.json");
}

inline NoiseSource noise_of(at::Generator& generator) {
  return [&generator](at::IntArrayRef shape) { return at::randn(shape, generator); };
}

template <typename Function>
void expect_error(ErrorKind kind, const std::vector<std::string>& words, Function&& function) {
  try {
    function();
    FAIL() << "no error; expected one with '" << words.front() << "'";
  } catch (const Error& error) {
    const std::string text = std::string(error.what()) + "\n" + error.hint();
    EXPECT_EQ(error.kind(), kind) << text;
    for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << word << " in: " << text;
  }
}

// Stable Diffusion's betas, nothing clipped, ending at the picture.
inline json stable_diffusion(const json& more = json::object()) {
  json fields = {{"beta_start", 0.00085}, {"beta_end", 0.012},      {"beta_schedule", "scaled_linear"},
                 {"clip_sample", false},  {"skip_prk_steps", true}, {"set_alpha_to_one", true}};
  fields.update(more);
  return fields;
}

}  // namespace easel
