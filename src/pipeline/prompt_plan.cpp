#include "pipeline/prompt_plan.h"

#include <algorithm>
#include <cmath>

#include "pipeline/embeddings.h"

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

class ChunkCounter {
 public:
  ChunkCounter(const Request& r, const Checkpoint& c) : c_(c), embeddings_(embeddings_of(r, c)) {}

  std::size_t most() const { return most_; }

  void look_at(const PromptPart& part) {
    if (c_.multilingual) return look_at(c_.multilingual->tokenizer()->chunk_rules(), Part::kTextEncoder, part.first);
    if (c_.text_encoder) look_at(c_.text_encoder->tokenizer()->chunk_rules(), Part::kTextEncoder, part.first);
    if (c_.text_encoder_2) look_at(c_.text_encoder_2->tokenizer()->chunk_rules(), Part::kTextEncoder2, part.second);
  }

 private:
  void look_at(const ChunkRules& rules, Part part, const std::vector<ScheduledText>& schedule) {
    for (const ScheduledText& entry : schedule) {
      const std::vector<WeightedText> texts = weighted_texts(entry.text);
      const FoundWords found = embeddings_ ? embeddings_->words_in(texts, part) : FoundWords();
      most_ = std::max(most_, chunks_of(rules, texts, found.words).size());
    }
  }

  const Checkpoint& c_;
  std::shared_ptr<EmbeddingFolder> embeddings_;
  std::size_t most_ = 1;
};

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
  ChunkCounter chunks(r, c);
  for (const PromptPart& part : plan.parts) chunks.look_at(part);
  if (c.is_guided(*r.cfg_scale)) chunks.look_at(plan.negative);
  shape.chunks = static_cast<int64_t>(chunks.most());
  return shape;
}

}  // namespace easel
