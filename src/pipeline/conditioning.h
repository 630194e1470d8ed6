// What the U-Net is told of a request: text and, for SDXL, sizes.
#pragma once

#include "pipeline/stages.h"

namespace easel {

// B: 2N with guidance, the unconditional half first; else N.
struct Conditioning {
  Tensor context;         // [B, T, D]
  AddedConditions added;  // of [B, …]
};

// The tokenizers of a checkpoint. Throws Error(kFile) when their ids or lengths go beyond the text encoders.
class Tokenizers {
 public:
  explicit Tokenizers(const Checkpoint& checkpoint);
  const ClipTokenizer& of(Part part) const { return *(part == Part::kTextEncoder2 ? second_ : first_); }
  const XlmRobertaTokenizer& multilingual() const { return *multilingual_; }

 private:
  std::optional<ClipTokenizer> first_, second_;
  std::optional<XlmRobertaTokenizer> multilingual_;
};

// Warns once of each text that is cut.
class CutWarnings {
 public:
  void tell(const std::string& text, const TokenizedPrompt& tokens, int64_t max_length);

 private:
  std::set<std::string> told_;
};

// In the U-Net's dtype and on its device. `nets` loads the text encoders it needs, after `make_room`.
Conditioning condition(const Request& resolved, const Tokenizers& tokenizers, StageSet& nets, CutWarnings& cuts,
                       const std::function<void()>& make_room, Timings& time);

// N pictures' conditionings, of B = 2 or 1 each, as one.
Conditioning joined(const std::vector<Conditioning>& all);

}  // namespace easel
