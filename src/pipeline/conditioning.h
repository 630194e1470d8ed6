// What the U-Net is told of a request: text and, for SDXL, sizes.
#pragma once

#include "pipeline/prompt_plan.h"
#include "pipeline/stages.h"

namespace easel {

// The resolved requests of pictures that go through the networks together: they share their pack_key().
using Pack = std::vector<const Request*>;

// B: (1 + K)·N rows with guidance, the N unconditional ones first, then the first of K conditions of each picture, …;
// else K·N. K is 1 but for prompts with AND.
struct Conditioning {
  Tensor context;         // [B, T, D]
  AddedConditions added;  // of [B, …]
};

// What N pictures are told over the steps of a run.
struct TextSchedule {
  std::vector<Conditioning> all = {};             // each different one once
  std::vector<std::size_t> of_step = {};          // which of them, by the steps that are drawn
  std::vector<std::vector<double>> weights = {};  // of the K conditions of each picture
  PromptPlan steps;                               // whose step_of() counts them

  const Conditioning& at(const Step& step) const;
  bool is_composed() const { return weights.front().size() > 1; }
};

// The tokenizers of a checkpoint. Throws Error(kFile) when their ids or lengths go beyond the text encoders.
class Tokenizers {
 public:
  explicit Tokenizers(const Checkpoint& checkpoint);
  const ClipTokenizer& of(Part part) const { return *(part == Part::kTextEncoder2 ? second_ : first_); }
  const XlmRobertaTokenizer& multilingual() const { return *multilingual_; }

 private:
  std::shared_ptr<const ClipTokenizer> first_, second_;
  std::shared_ptr<const XlmRobertaTokenizer> multilingual_;
};

// Warns once of each text that is cut.
class CutWarnings {
 public:
  void tell(const std::string& text, const TokenizedPrompt& tokens, int64_t max_length);

 private:
  std::set<std::string> told_;
};

// In the U-Net's dtype and on its device. `nets` loads the text encoders it needs,
// after `make_room`. `first_pass`: the steps of the pass before, of --hires.
TextSchedule condition(const Pack& pack, std::optional<int64_t> first_pass, const Tokenizers& tokenizers,
                       StageSet& nets, CutWarnings& cuts, const std::function<void()>& make_room, Timings& time);

// The rows of all conditions without the unconditional ones, where guidance is on.
Conditioning conditional_rows(const Conditioning& all, int64_t pictures);

}  // namespace easel
