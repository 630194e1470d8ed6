#include "text/bpe.h"

#include <queue>

#include "text/byte_level.h"

namespace easel {

namespace {

uint64_t mix(uint64_t x) {  // the finaliser of MurmurHash3
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

uint64_t hash(std::string_view text) {  // FNV-1a
  uint64_t h = 0xcbf29ce484222325ULL;
  for (const char b : text) h = (h ^ static_cast<unsigned char>(b)) * 0x100000001b3ULL;
  return mix(h);
}

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

// ---- Vocabulary ---------------------------------------------------------------------------------

std::size_t Vocabulary::slot(std::string_view token) const {
  const std::size_t mask = table_.size() - 1;
  std::size_t i = hash(token) & mask;
  while (table_[i].id != kNone && text(table_[i]) != token) i = (i + 1) & mask;
  return i;
}

void Vocabulary::grow() {
  std::vector<Entry> old(table_.size() * 2);
  old.swap(table_);
  for (const Entry& e : old) {
    if (e.id != kNone) table_[slot(text(e))] = e;
  }
}

Vocabulary::Added Vocabulary::add(std::string_view token, int32_t id) {
  if (2 * (size_ + 1) > table_.size()) grow();
  const std::size_t i = slot(token);
  if (table_[i].id != kNone) return Added::kTokenTwice;
  if (has(id)) return Added::kIdTwice;
  const Entry entry{static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(token.size()), id};
  text_ += token;
  table_[i] = entry;
  if (id >= id_end()) by_id_.resize(static_cast<std::size_t>(id) + 1);
  by_id_[static_cast<std::size_t>(id)] = entry;
  ++size_;
  return Added::kYes;
}

int32_t Vocabulary::find(std::string_view token) const { return table_[slot(token)].id; }

bool Vocabulary::has(int64_t id) const {
  return id >= 0 && id < id_end() && by_id_[static_cast<std::size_t>(id)].id != kNone;
}

std::string_view Vocabulary::token(int64_t id) const { return text(by_id_[static_cast<std::size_t>(id)]); }

// ---- MergeTable ---------------------------------------------------------------------------------

std::size_t MergeTable::slot(uint64_t key) const {
  const std::size_t mask = table_.size() - 1;
  std::size_t i = mix(key) & mask;
  while (table_[i].merge.rank >= 0 && table_[i].key != key) i = (i + 1) & mask;
  return i;
}

void MergeTable::add(int32_t left, int32_t right, Merge merge) {
  if (2 * (size_ + 1) > table_.size()) {
    std::vector<Entry> old(table_.size() * 2);
    old.swap(table_);
    for (const Entry& e : old) {
      if (e.merge.rank >= 0) table_[slot(e.key)] = e;
    }
  }
  Entry& entry = table_[slot(pair_key(left, right))];
  size_ += entry.merge.rank < 0;
  entry = {pair_key(left, right), merge};
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  return table_[slot(pair_key(left, right))].merge;
}

// ---- Bpe ----------------------------------------------------------------------------------------

Bpe::Bpe(const Vocabulary& vocabulary, MergeTable merges, int32_t unknown_id) : merges_(std::move(merges)) {
  const auto id = [&](std::string_view token) {
    const int32_t found = vocabulary.find(token);
    return found == Vocabulary::kNone ? unknown_id : found;
  };
  for (int b = 0; b < 256; ++b) {
    const std::string symbol(byte_level::symbol(static_cast<unsigned char>(b)));
    inner_[static_cast<std::size_t>(b)] = id(symbol);
    last_[static_cast<std::size_t>(b)] = id(symbol + std::string(kEndOfWord));
  }
}

void Bpe::append_word(std::vector<int64_t>& ids, std::string_view word) const {
  struct Symbol {
    int32_t id;  // -1: merged into the one before
    int before, after;
  };
  struct Candidate {
    MergeTable::Merge merge;
    int left;
    bool operator<(const Candidate& other) const {  // the queue's top is the lowest rank, of equal ones the first
      return merge.rank != other.merge.rank ? merge.rank > other.merge.rank : left > other.left;
    }
  };
  const int size = static_cast<int>(word.size());
  std::vector<Symbol> symbols(word.size());
  for (int i = 0; i < size; ++i) {
    const auto b = static_cast<unsigned char>(word[static_cast<std::size_t>(i)]);
    symbols[static_cast<std::size_t>(i)] = {i + 1 < size ? inner_[b] : last_[b], i - 1, i + 1 < size ? i + 1 : -1};
  }
  const auto at = [&](int i) -> Symbol& { return symbols[static_cast<std::size_t>(i)]; };
  std::priority_queue<Candidate> queue;
  const auto offer = [&](int left) {
    if (left < 0 || at(left).after < 0) return;
    const auto merge = merges_.find(at(left).id, at(at(left).after).id);
    if (merge.rank >= 0) queue.push({merge, left});
  };
  for (int i = 0; i < size; ++i) offer(i);

  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = at(best.left);
    if (left.id < 0 || left.after < 0) continue;
    Symbol& right = at(left.after);
    if (merges_.find(left.id, right.id).result != best.merge.result) continue;  // a neighbour has changed since
    left.id = best.merge.result;
    right.id = -1;
    left.after = right.after;
    if (left.after >= 0) at(left.after).before = best.left;
    offer(left.before);
    offer(best.left);
  }
  for (int i = 0; i >= 0 && i < size; i = at(i).after) ids.push_back(at(i).id);
}

}  // namespace easel
