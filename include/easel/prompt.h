// text: the prompt language of AUTOMATIC1111's web UI, as its users write it. Pure text; no tokenizer, no network.
//
//   a [cat:dog:0.5] in a (red:1.3) hat AND a castle :0.8 <lora:ink:0.7>
//
// In this order: tags are taken out, AND splits into parts, each part has a text for every step, each text has weights.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace easel {

// ---- tags ---------------------------------------------------------------------------------------------------------

// <lora:name:w> or <lora:name:te:unet>, with te=… and unet=… in any place; <lyco:…> is the same.
struct LoraTag {
  std::string name;
  double text_encoder = 1, unet = 1;
};

struct TaggedPrompt {
  std::string text;  // without the tags
  std::vector<LoraTag> loras;
  std::vector<std::string> faults;  // a sentence for each tag that cannot be honoured
};

// Takes <name:…> tags out of a prompt. Kinds that nobody knows stay in the text.
TaggedPrompt without_tags(std::string_view prompt);

// ---- composition --------------------------------------------------------------------------------------------------

struct ComposedText {
  std::string text;
  double weight = 1;
};

// "a AND b :0.5" → a at 1, b at 0.5: the parts of Composable Diffusion (Liu et al. 2022, arXiv 2206.01714), whose
// guidance is added up. Always at least one; a prompt without AND is one part as it is, whatever it ends in.
std::vector<ComposedText> split_composition(std::string_view prompt);

// ---- schedules ----------------------------------------------------------------------------------------------------

// The text up to and with a step. Steps count from 0 when the picture is drawn, and the numbers in the language are
// compared as they are, so "[a:b:3]" shows a at steps 0 to 3: the reference's rule.
struct ScheduledText {
  int64_t last_step;
  std::string text;
};

// [from:to:when], [to:when], [from::when]: `when` is a step, or with a point in it a share of the steps; [a|b|c]
// changes with every step. `first_pass`: the steps of the pass before, where this is the second one: then whole numbers
// count on from there and shares go from 1 to 2. Brackets that do not belong together are text. The last entry's
// last_step is `steps`.
std::vector<ScheduledText> scheduled_texts(std::string_view prompt, int64_t steps,
                                           std::optional<int64_t> first_pass = std::nullopt);

// The entry for a step.
const std::string& text_at(const std::vector<ScheduledText>& schedule, int64_t step);

// ---- weights ------------------------------------------------------------------------------------------------------

struct WeightedText {
  std::string text;
  double weight = 1;
  bool is_break = false;  // BREAK: what follows begins a new chunk; no text
};

// (x) is 1.1 times, [x] a 1.1th, (x:1.3) 1.3 times; \( \) \[ \] \\ are letters. Brackets that are left open weigh all
// that follows, as in the reference. Neighbours of one weight are one. Always at least one.
std::vector<WeightedText> weighted_texts(std::string_view text);

// What is odd about a prompt and nevertheless drawn: brackets that do not belong together. A sentence each.
std::vector<std::string> oddities_of(std::string_view prompt);

}  // namespace easel
