// A prompt of any length as chunks that the encoder takes: the reference is tokenize_line of AUTOMATIC1111's web UI.
#include <algorithm>

#include "easel/text.h"

namespace easel {

namespace {

constexpr int64_t kCommaReach = 20;  // comma_padding_backtrack

class Chunker {
 public:
  Chunker(const ChunkRules& rules, const std::vector<EmbeddingWord>& words)
      : rules_(rules), words_(words), room_(static_cast<std::size_t>(rules.max_length - 2)) {}

  std::vector<PromptChunk> read(const std::vector<WeightedText>& texts) {
    for (const WeightedText& text : texts) {
      if (text.is_break) {
        finish_chunk();
      } else {
        append(rules_.encode(text.text), text.weight);
      }
      ++fragment_;
    }
    if (!chunk_.ids.empty() || done_.empty()) finish_chunk();
    return std::move(done_);
  }

 private:
  void append(const std::vector<int64_t>& ids, double weight) {
    for (std::size_t at = 0; at < ids.size();) {
      if (ids[at] == rules_.comma_id) {
        last_comma_ = static_cast<int64_t>(chunk_.ids.size());
      } else if (is_full() && last_comma_ >= 0 && size() - last_comma_ <= kCommaReach) {
        break_behind_comma();
      }
      if (is_full()) finish_chunk();
      const auto word = word_at(ids, at);
      if (!word) {
        put(ids[at++], weight);
        continue;
      }
      const EmbeddingWord& found = words_[*word];
      if (chunk_.ids.size() + static_cast<std::size_t>(found.vectors) > room_) finish_chunk();
      chunk_.words.push_back({size(), *word});
      for (int64_t i = 0; i < found.vectors; ++i) put(0, weight);
      at += found.ids.size();
    }
  }

  std::optional<std::size_t> word_at(const std::vector<int64_t>& ids, std::size_t at) const {
    std::optional<std::size_t> longest;
    for (std::size_t i = 0; i < words_.size(); ++i) {
      const std::vector<int64_t>& word = words_[i].ids;
      const bool is_there = !word.empty() && at + word.size() <= ids.size() &&
                            std::equal(word.begin(), word.end(), ids.begin() + static_cast<std::ptrdiff_t>(at));
      if (is_there && (!longest || word.size() > words_[*longest].ids.size())) longest = i;
    }
    return longest;
  }

  void put(int64_t id, double weight) {
    chunk_.ids.push_back(id);
    chunk_.weights.push_back(weight);
    chunk_.fragments.push_back(fragment_);
  }

  int64_t size() const { return static_cast<int64_t>(chunk_.ids.size()); }
  bool is_full() const { return chunk_.ids.size() == room_; }

  // What stands behind the comma goes into the next chunk.
  void break_behind_comma() {
    const auto from = static_cast<std::ptrdiff_t>(last_comma_ + 1);
    PromptChunk next;
    const auto move_tail = [&](auto& values, auto& into) {
      into.assign(values.begin() + from, values.end());
      values.resize(static_cast<std::size_t>(from));
    };
    move_tail(chunk_.ids, next.ids);
    move_tail(chunk_.weights, next.weights);
    move_tail(chunk_.fragments, next.fragments);
    const auto stays = [&](const PromptChunk::Place& place) { return place.position < from; };
    const auto moved = std::stable_partition(chunk_.words.begin(), chunk_.words.end(), stays);
    for (auto place = moved; place != chunk_.words.end(); ++place)
      next.words.push_back({place->position - from, place->word});
    chunk_.words.erase(moved, chunk_.words.end());
    finish_chunk();
    chunk_ = std::move(next);
  }

  // Start and end around it, padded.
  void finish_chunk() {
    const auto around = [&](auto& values, auto first, auto last, auto padding) {
      values.insert(values.begin(), first);
      values.push_back(last);
      values.resize(room_ + 2, padding);
    };
    chunk_.length = size() + 2;
    around(chunk_.ids, rules_.bos_id, rules_.eos_id, rules_.pad_id);
    around(chunk_.weights, 1.0, 1.0, 1.0);
    around(chunk_.fragments, int64_t{-1}, int64_t{-1}, int64_t{-1});
    for (PromptChunk::Place& place : chunk_.words) ++place.position;
    done_.push_back(std::move(chunk_));
    chunk_ = {};
    last_comma_ = -1;
  }

  const ChunkRules& rules_;
  const std::vector<EmbeddingWord>& words_;
  const std::size_t room_;
  std::vector<PromptChunk> done_;
  PromptChunk chunk_;
  int64_t last_comma_ = -1, fragment_ = 0;
};

}  // namespace

std::vector<PromptChunk> chunks_of(const ChunkRules& rules, const std::vector<WeightedText>& texts,
                                   const std::vector<EmbeddingWord>& words) {
  return Chunker(rules, words).read(texts);
}

}  // namespace easel
