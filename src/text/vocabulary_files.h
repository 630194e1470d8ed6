// The vocabulary and the merges, in either form they are published in.
#pragma once

#include "easel/tensor.h"
#include "text/tokenizer_files.h"

namespace easel {

// All throw Error(kFile) with the file and the place in it.
void read_vocab_json(const std::filesystem::path& file, TokenizerFiles& files);
// After the vocabulary: a merge is of tokens that are in it.
void read_merges_txt(const std::filesystem::path& file, TokenizerFiles& files);
// Both from tokenizer.json; returns its added tokens, an array.
json read_tokenizer_json(const std::filesystem::path& file, TokenizerFiles& files);

void add_token(Vocabulary& vocabulary, const std::filesystem::path& file, const std::string& token, int64_t id);

}  // namespace easel
