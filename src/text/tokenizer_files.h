// A checkpoint's tokenizer folder as published or saved by any version of transformers, read into
// one structure.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "text/bpe.h"

namespace easel {

// A token found in the text as it stands, before the text is split into words.
struct AddedToken {
  std::string content;
  bool normalized = true;  // looked for in the normalised text (so in any case), else in the raw text
  bool lstrip = false;     // takes the white space before it along
  bool rstrip = false;     // … and after it
};

struct TokenizerFiles {
  Vocabulary vocabulary;
  MergeTable merges;
  std::vector<AddedToken> added;  // of two with the same content the later counts
  std::string bos_token = "<|startoftext|>";
  std::string eos_token = "<|endoftext|>";
  std::string unk_token = "<|endoftext|>";
  std::string pad_token = "<|endoftext|>";
  int64_t max_length = 77;

  // As transformers 5's CLIPTokenizer.from_pretrained does it: vocabulary from tokenizer.json where
  // there is one, else from vocab.json and merges.txt; tokenizer_config.json,
  // special_tokens_map.json and added_tokens.json where they are there. Throws Error(kFile) with
  // the file and the place in it.
  static TokenizerFiles read(const std::filesystem::path& folder);
  // The vocabulary of `folder`, everything else from that tokenizer_config.json.
  static TokenizerFiles read(const std::filesystem::path& folder, const std::filesystem::path& tokenizer_config);
};

}  // namespace easel
