// What a run is expected to be refused with.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "easel/core.h"

namespace easel::testing {

// The error of `run`; nullopt, and a failure that begins with `what`, where it went through.
template <class Run>
std::optional<Error> error_of(const std::string& what, Run&& run) {
  try {
    run();
    ADD_FAILURE() << what << " was accepted";
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

inline void expect_words_in(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(text.find(word), std::string::npos) << word << " in: " << text;
}

// In the faults or in the hint.
template <class Run>
void expect_fault(const std::vector<std::string>& words, Run&& run, ErrorKind kind = ErrorKind::kFile) {
  const auto error = error_of("what should have a fault with " + words.front(), run);
  if (!error) return;
  const std::string text = std::string(error->what()) + "\n" + error->hint();
  EXPECT_EQ(error->kind(), kind) << text;
  expect_words_in(text, words);
}

// A config.json whose `field` is `value`, by what reads it: the words are in the faults.
template <class Read>
void expect_field_refused(json file, const std::string& field, const json& value, const std::vector<std::string>& words,
                          Read&& read) {
  file[field] = value;
  const auto error = error_of(field + " " + value.dump(), [&] { read(file); });
  if (!error) return;
  EXPECT_EQ(error->kind(), ErrorKind::kFile) << field;
  expect_words_in(error->what(), words);
}

}  // namespace easel::testing
