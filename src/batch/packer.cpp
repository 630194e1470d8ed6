#include "easel/batch.h"

namespace easel {

Packer::Packer(int64_t batch_size, int64_t window) : batch_size_(batch_size), window_(std::max(window, batch_size)) {
  TORCH_CHECK(batch_size >= 1, "packs of ", batch_size);
}

void Packer::add(int64_t picture, const std::string& key) {
  waiting_.emplace(picture, key);
  by_key_[key].insert(picture);
}

void Packer::remove(int64_t picture) {
  const auto found = waiting_.find(picture);
  if (found == waiting_.end()) return;
  const auto group = by_key_.find(found->second);
  group->second.erase(picture);
  if (group->second.empty()) by_key_.erase(group);
  waiting_.erase(found);
}

std::vector<int64_t> Packer::take(const std::string& key) {
  const std::set<int64_t>& group = by_key_.at(key);
  std::vector<int64_t> pack;
  for (auto picture = group.begin(); picture != group.end() && static_cast<int64_t>(pack.size()) < batch_size_;
       ++picture)
    pack.push_back(*picture);
  for (const int64_t picture : pack) remove(picture);
  return pack;
}

std::optional<std::vector<int64_t>> Packer::next(bool flush) {
  // Of several whole batches the one with the oldest picture.
  const std::string* whole = nullptr;
  int64_t oldest = 0;
  for (const auto& [key, group] : by_key_) {
    if (static_cast<int64_t>(group.size()) < batch_size_ || (whole != nullptr && *group.begin() > oldest)) continue;
    whole = &key;
    oldest = *group.begin();
  }
  if (whole != nullptr) return take(std::string(*whole));
  if (waiting_.empty() || !(flush || is_full())) return std::nullopt;
  return take(std::string(waiting_.begin()->second));
}

int64_t best_batch_size(const std::function<std::optional<double>(int64_t)>& seconds_of, int64_t most, double budget) {
  constexpr double kWorthwhile = 0.95;
  int64_t best = 1;
  double fastest = 0, spent = 0;
  for (int64_t pictures = 1; pictures <= most; pictures *= 2) {
    const std::optional<double> seconds = seconds_of(pictures);
    if (!seconds) break;
    const double each = *seconds / static_cast<double>(pictures);
    if (pictures > 1 && each > kWorthwhile * fastest) break;
    best = pictures;
    fastest = each;
    spent += *seconds;
    if (spent + 2 * *seconds > budget) break;  // the next one takes about twice as long
  }
  return best;
}

}  // namespace easel
