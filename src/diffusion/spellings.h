// Names as users of other programs write them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace easel::diffusion {

// Lower case, without blanks, '-' and '_'; "++" is "pp".
std::string normalised(std::string_view spelling);

// The row of `rows` whose name or alias is `spelling`, normalised; also with InvokeAI's k_ or k-diffusion's sample_
// before it. Null when there is none.
template <typename Row>
const Row* row_named(const std::vector<Row>& rows, std::string_view spelling) {
  const std::string word = normalised(spelling);
  const auto matches = [](const std::string& name, std::string_view wanted) { return normalised(name) == wanted; };
  for (const std::string_view prefix : {"", "k", "sample"}) {
    if (!word.starts_with(prefix)) continue;
    const std::string_view wanted = std::string_view(word).substr(prefix.size());
    for (const Row& row : rows) {
      if (matches(row.name, wanted)) return &row;
      for (const std::string& alias : row.aliases) {
        if (matches(alias, wanted)) return &row;
      }
    }
  }
  return nullptr;
}

template <typename Row>
std::vector<std::string> spellings_of(const std::vector<Row>& rows) {
  std::vector<std::string> all;
  for (const Row& row : rows) {
    all.push_back(row.name);
    all.insert(all.end(), row.aliases.begin(), row.aliases.end());
  }
  return all;
}

template <typename Row>
std::vector<std::string> names_of(const std::vector<Row>& rows) {
  std::vector<std::string> names;
  for (const Row& row : rows) names.push_back(row.name);
  return names;
}

}  // namespace easel::diffusion
