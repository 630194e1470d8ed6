// The textual inversions that prompts of a checkpoint may name.
#pragma once

#include <mutex>

#include "easel/textual_inversion.h"
#include "pipeline/stages.h"

namespace easel {

// Which words of a text stand for vectors, for chunks_of(); `files[i]` is behind words[i].
struct FoundWords {
  std::vector<EmbeddingWord> words;
  std::vector<const TextualInversion*> files;
};

// One folder's, for one checkpoint. Files are read when a prompt names them. May be used from several threads.
class EmbeddingFolder {
 public:
  EmbeddingFolder(const std::filesystem::path& folder, const Checkpoint& checkpoint);

  // The words in texts that the tokenizer of `part` reads. Throws Error(kFile) for files that cannot be used.
  FoundWords words_in(const std::vector<WeightedText>& texts, Part part);

 private:
  struct Word {
    std::filesystem::path file;
    std::map<Part, std::vector<int64_t>> ids;
    std::optional<TextualInversion> read;
  };
  std::mutex reading_;
  EncoderWidths widths_;
  std::map<Part, ChunkRules> rules_;
  std::vector<std::shared_ptr<const ClipTokenizer>> tokenizers_;
  std::vector<Word> words_;
};

// The folder of a request; null where it names none.
std::shared_ptr<EmbeddingFolder> embeddings_of(const Request& request, const Checkpoint& checkpoint);

}  // namespace easel
