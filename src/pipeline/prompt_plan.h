// A request's texts, read: what each text encoder is told at each step.
#pragma once

#include "easel/pipeline.h"

namespace easel {

// The texts for a checkpoint's two encoders; models with one read the first.
struct Texts {
  std::string first, second;
  bool operator<(const Texts& other) const { return std::tie(first, second) < std::tie(other.first, other.second); }
};

struct PromptPart {
  double weight = 1;  // of AND's parts
  std::vector<ScheduledText> first = {}, second = {};

  Texts at(int64_t step) const { return {text_at(first, step), text_at(second, step)}; }
};

struct PromptPlan {
  bool raw = true;  // texts are cut at the encoder's length, brackets are letters
  PromptWeighting weighting = PromptWeighting::kA1111;
  std::vector<PromptPart> parts;  // at least one
  PromptPart negative;
  int64_t steps = 1;       // of the schedule
  int64_t first_step = 0;  // of these: strength leaves out those before

  // Of the texts' own steps, which count from the first that is drawn.
  int64_t step_of(const Step& step) const;
  int64_t steps_drawn() const { return steps - first_step; }
};

// `request` has prompt, steps and, from resolve(), prompt_syntax. `first_pass`: the steps of the pass before, of
// --hires. Adds the faults of its prompts.
PromptPlan plan_prompt(const Request& request, const Checkpoint& checkpoint, std::optional<int64_t> first_pass,
                       Faults& faults);
// Of a resolved request, which has no faults.
PromptPlan plan_prompt(const Request& resolved, const Checkpoint& checkpoint,
                       std::optional<int64_t> first_pass = std::nullopt);

// What of its prompts a picture must share with the others of its pack: the parts of AND, and the chunks of the longest
// text, to which shorter ones are filled up.
struct PromptShape {
  int64_t parts = 1, chunks = 1;
};
PromptShape prompt_shape(const Request& resolved, const Checkpoint& checkpoint);

}  // namespace easel
