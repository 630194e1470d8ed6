#include "pipeline/prompt_plan.h"

#include <algorithm>
#include <cmath>

namespace easel {

namespace {

// A refiner's only encoder is SDXL's second, and takes the first prompt, as in diffusers.
const std::string& second_text(const Checkpoint& c, const std::string& prompt,
                               const std::optional<std::string>& prompt_2) {
  return c.text_encoder && prompt_2 ? *prompt_2 : prompt;
}

std::vector<ScheduledText> always(const std::string& text) { return {{0, text}}; }

std::string without_its_tags(const std::string& prompt, const char* whose, Faults& faults) {
  TaggedPrompt tagged = without_tags(prompt);
  for (const std::string& fault : tagged.faults) faults.add(std::string(whose) + ": " + fault);
  return std::move(tagged.text);
}

class Planner {
 public:
  Planner(PromptPlan& plan, std::optional<int64_t> first_pass, Faults& faults)
      : plan_(plan), first_pass_(first_pass), faults_(faults) {}

  void prompts(const std::string& first, const std::string& second) {
    const auto ones = split_composition(without_its_tags(first, "the prompt", faults_));
    const auto twos = split_composition(&first == &second ? without_tags(first).text
                                                          : without_its_tags(second, "--prompt-2", faults_));
    if (ones.size() != twos.size()) {
      faults_.add("--prompt-2 has " + std::to_string(twos.size()) + " parts joined by AND, the prompt " +
                  std::to_string(ones.size()) + ": each part needs a text for both encoders");
      return;
    }
    for (std::size_t i = 0; i < ones.size(); ++i)
      plan_.parts.push_back({ones[i].weight, scheduled(ones[i].text), scheduled(twos[i].text)});
  }

  void negative(const std::string& first, const std::string& second) {
    for (const std::string* text : {&first, &second}) {
      if (!without_tags(*text).loras.empty())
        return faults_.add(
            "the negative prompt has a <lora:...> tag: a LoRA works on the whole picture, so it is named "
            "in the prompt");
    }
    plan_.negative = {1, scheduled(first), scheduled(second)};
  }

 private:
  std::vector<ScheduledText> scheduled(const std::string& text) const {
    return scheduled_texts(text, plan_.steps, first_pass_);
  }

  PromptPlan& plan_;
  std::optional<int64_t> first_pass_;
  Faults& faults_;
};

template <class Tokenizer>
std::size_t chunk_count(const Tokenizer& tokenizer, const std::vector<ScheduledText>& schedule) {
  std::size_t most = 1;
  for (const ScheduledText& entry : schedule)
    most = std::max(most, chunks_of(tokenizer.chunk_rules(), weighted_texts(entry.text)).size());
  return most;
}

std::size_t chunk_count(const PromptPart& part, const Checkpoint& c) {
  std::size_t most = 1;
  if (c.multilingual) return chunk_count(*c.multilingual->tokenizer(), part.first);
  if (c.text_encoder) most = chunk_count(*c.text_encoder->tokenizer(), part.first);
  if (c.text_encoder_2) most = std::max(most, chunk_count(*c.text_encoder_2->tokenizer(), part.second));
  return most;
}

}  // namespace

int64_t PromptPlan::step_of(const Step& step) const {
  constexpr double kRounding = 1e-6;
  const auto of_all = static_cast<int64_t>(std::floor(step.progress * static_cast<double>(steps) + kRounding));
  return std::clamp<int64_t>(of_all - first_step, 0, steps_drawn() - 1);
}

PromptPlan plan_prompt(const Request& r, const Checkpoint& c, std::optional<int64_t> first_pass, Faults& faults) {
  PromptPlan plan;
  plan.raw = r.prompt_syntax.value_or("raw") == "raw";
  if (r.prompt_weighting == "compel") plan.weighting = PromptWeighting::kCompel;
  plan.steps = *r.steps;
  const auto kept = static_cast<int64_t>(static_cast<double>(plan.steps) * r.strength.value_or(1));
  plan.first_step = plan.steps - std::clamp<int64_t>(kept, 1, plan.steps);
  const std::string& prompt = *r.prompt;
  const std::string negative = r.negative_prompt.value_or("");
  const std::string &prompt_2 = second_text(c, prompt, r.prompt_2),
                    &negative_2 = second_text(c, negative, r.negative_prompt_2);
  if (plan.raw) {
    plan.parts = {{1, always(prompt), always(prompt_2)}};
    plan.negative = {1, always(negative), always(negative_2)};
    return plan;
  }
  Planner planner(plan, first_pass, faults);
  planner.prompts(prompt, prompt_2);
  planner.negative(negative, negative_2);
  return plan;
}

PromptPlan plan_prompt(const Request& resolved, const Checkpoint& c, std::optional<int64_t> first_pass) {
  Faults faults;
  PromptPlan plan = plan_prompt(resolved, c, first_pass, faults);
  faults.raise_if_any(ErrorKind::kUsage);
  return plan;
}

PromptShape prompt_shape(const Request& r, const Checkpoint& c) {
  const PromptPlan plan = plan_prompt(r, c);
  PromptShape shape{static_cast<int64_t>(plan.parts.size()), 1};
  if (plan.raw) return shape;
  std::size_t chunks = 1;
  for (const PromptPart& part : plan.parts) chunks = std::max(chunks, chunk_count(part, c));
  if (c.is_guided(*r.cfg_scale)) chunks = std::max(chunks, chunk_count(plan.negative, c));
  shape.chunks = static_cast<int64_t>(chunks);
  return shape;
}

}  // namespace easel
