#include <algorithm>
#include <cctype>
#include <charconv>
#include <numeric>

#include "easel/core.h"

namespace easel {

namespace {

std::string folded(std::string_view word) {
  std::string out;
  for (const char c : word) out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// Levenshtein 1966: insertions, deletions and substitutions, one row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string plain(double value) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}

std::vector<std::string> nearest_names(std::string_view word, const std::vector<std::string>& known,
                                       std::size_t count) {
  constexpr std::size_t kLongest = 200;  // a pasted prompt in place of a name: quadratic time is not owed to it
  const std::string wanted = folded(word.substr(0, kLongest));
  struct Ranked {
    bool is_prefix;
    std::size_t distance;
    const std::string* name;
  };
  std::vector<Ranked> ranked;
  for (const std::string& name : known) {
    const std::string candidate = folded(name);
    const bool some = !wanted.empty() && !candidate.empty();
    const bool is_prefix = some && (candidate.starts_with(wanted) || wanted.starts_with(candidate));
    ranked.push_back({is_prefix, edit_distance(wanted, candidate), &name});
  }
  // Among prefixes the nearest first too: "Euler_A" means euler_a before euler.
  std::stable_sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) {
    return a.is_prefix != b.is_prefix ? a.is_prefix : a.distance < b.distance;
  });
  std::vector<std::string> nearest;
  for (std::size_t i = 0; i < std::min(count, ranked.size()); ++i) nearest.push_back(*ranked[i].name);
  return nearest;
}

}  // namespace easel
