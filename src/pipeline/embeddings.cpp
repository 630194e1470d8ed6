#include "pipeline/embeddings.h"

#include <algorithm>

namespace easel {

EmbeddingFolder::EmbeddingFolder(const std::filesystem::path& folder, const Checkpoint& c) {
  const auto add = [&](Part part, const std::optional<TextPart>& encoder, int64_t& width) {
    if (!encoder) return;
    width = encoder->spec.hidden_size;
    tokenizers_.push_back(encoder->tokenizer());
    rules_.emplace(part, tokenizers_.back()->chunk_rules());
  };
  add(Part::kTextEncoder, c.text_encoder, widths_.first);
  add(Part::kTextEncoder2, c.text_encoder_2, widths_.second);
  for (const auto& [name, file] : textual_inversions_in(folder)) {
    Word word{file, {}, {}};
    for (const auto& [part, rules] : rules_) word.ids[part] = rules.encode(name);
    words_.push_back(std::move(word));
  }
}

FoundWords EmbeddingFolder::words_in(const std::vector<WeightedText>& texts, Part part) {
  const std::lock_guard lock(reading_);
  FoundWords found;
  std::vector<std::vector<int64_t>> read;
  for (const WeightedText& text : texts) read.push_back(rules_.at(part).encode(text.text));
  for (Word& word : words_) {
    const std::vector<int64_t>& ids = word.ids.at(part);
    const auto holds = [&](const std::vector<int64_t>& text) {
      return !ids.empty() && std::search(text.begin(), text.end(), ids.begin(), ids.end()) != text.end();
    };
    if (std::none_of(read.begin(), read.end(), holds)) continue;
    if (!word.read) word.read = read_textual_inversion(word.file, widths_);
    found.words.push_back({ids, word.read->count()});
    found.files.push_back(&*word.read);
  }
  return found;
}

std::shared_ptr<EmbeddingFolder> embeddings_of(const Request& r, const Checkpoint& c) {
  if (!r.embd_dir || c.multilingual) return nullptr;
  const std::lock_guard lock(c.adapters->opening);
  auto& folder = c.adapters->embeddings[*r.embd_dir];
  if (!folder) folder = std::make_shared<EmbeddingFolder>(*r.embd_dir, c);
  return folder;
}

}  // namespace easel
