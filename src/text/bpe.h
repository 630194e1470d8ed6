// Byte-pair encoding of one word (Sennrich et al. 2016, arXiv 1508.07909), with CLIP's end-of-word
// mark "</w>".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace easel {

inline constexpr std::string_view kEndOfWord = "</w>";

// Tokens ↔ ids. All token texts lie in one buffer under an open-addressing table: a start of the
// program pays for 49408 insertions and 150000 look-ups, which with the standard containers take
// most of the loading time.
class Vocabulary {
 public:
  static constexpr int32_t kNone = -1;
  static constexpr int64_t kMaxId = (int64_t{1} << 20) - 1;  // bounds the memory a hostile file can ask for

  enum class Added { kYes, kTokenTwice, kIdTwice };
  Added add(std::string_view token, int32_t id);  // 0 <= id <= kMaxId

  int32_t find(std::string_view token) const;  // kNone: not there
  bool has(int64_t id) const;
  std::string_view token(int64_t id) const;  // has(id); valid until the next add()
  std::size_t size() const { return size_; }
  int64_t id_end() const { return static_cast<int64_t>(by_id_.size()); }  // one past the largest id

 private:
  struct Entry {
    uint32_t start = 0, length = 0;
    int32_t id = kNone;
  };
  std::string_view text(const Entry& e) const { return {text_.data() + e.start, e.length}; }
  std::size_t slot(std::string_view token) const;
  void grow();

  std::string text_;
  std::vector<Entry> table_ = std::vector<Entry>(1024);  // a power of two, at most half full
  std::vector<Entry> by_id_;
  std::size_t size_ = 0;
};

// Pairs of ids → the id they merge into and the merge's rank (its line number: lower goes first).
class MergeTable {
 public:
  struct Merge {
    int32_t rank = -1;  // -1: no such merge
    int32_t result = -1;
  };
  void add(int32_t left, int32_t right,
           Merge merge);  // of a pair given twice the last counts, as in the reference
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Entry {
    uint64_t key = 0;
    Merge merge;
  };
  std::size_t slot(uint64_t key) const;

  std::vector<Entry> table_ = std::vector<Entry>(1024);
  std::size_t size_ = 0;
};

// Immutable once built.
class Bpe {
 public:
  // `unknown_id` stands for bytes that the vocabulary lacks.
  Bpe(const Vocabulary& vocabulary, MergeTable merges, int32_t unknown_id);

  // Appends the tokens of one word (raw bytes, not empty), in n log n.
  void append_word(std::vector<int64_t>& ids, std::string_view word) const;

 private:
  MergeTable merges_;
  std::array<int32_t, 256> inner_, last_;  // ids of the single bytes, without and with "</w>"
};

}  // namespace easel
