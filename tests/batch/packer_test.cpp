// Which pictures go through the networks together.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "easel/batch.h"

namespace easel {
namespace {

using Packs = std::vector<std::vector<int64_t>>;

// As the program packs a file: it reads on while there is room.
Packs packed(const std::vector<std::string>& keys, int64_t batch_size, int64_t window) {
  Packer packer(batch_size, window);
  Packs packs;
  std::size_t at = 0;
  while (true) {
    while (at < keys.size() && !packer.is_full()) {
      packer.add(static_cast<int64_t>(at), keys[at]);
      ++at;
    }
    const auto pack = packer.next(/*flush=*/at == keys.size());
    if (!pack) break;
    packs.push_back(*pack);
  }
  return packs;
}

TEST(Packer, FillsBatchesOfOneKey) {
  EXPECT_EQ(packed({"a", "b", "a", "b", "a"}, 2, 8), (Packs{{0, 2}, {1, 3}, {4}}));
  EXPECT_EQ(packed({"a", "a", "a"}, 1, 8), (Packs{{0}, {1}, {2}}));
  EXPECT_EQ(packed({}, 4, 8), Packs{});
}

TEST(Packer, AFullWindowLetsTheOldestGo) {
  EXPECT_EQ(packed({"a", "b", "c", "d", "a"}, 2, 3), (Packs{{0}, {1}, {2}, {3}, {4}}));
  EXPECT_EQ(packed({"a", "b", "b", "a", "a"}, 2, 3), (Packs{{1, 2}, {0, 3}, {4}}));
}

TEST(Packer, WhatIsRemovedIsNotDrawn) {
  Packer packer(2, 8);
  for (int64_t i = 0; i < 3; ++i) packer.add(i, "a");
  packer.remove(0);
  packer.remove(0);
  EXPECT_EQ(packer.next(false), (std::vector<int64_t>{1, 2}));
  EXPECT_TRUE(packer.is_empty());
  EXPECT_EQ(packer.next(true), std::nullopt);
}

TEST(Packer, EveryPictureComesOnceAndNoKeysMix) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> keys(random() % 60);
    for (std::string& key : keys) key = std::string(1, static_cast<char>('a' + random() % 5));
    const int64_t batch_size = 1 + random() % 8, window = 1 + random() % 20;
    std::vector<int64_t> seen;
    for (const auto& pack : packed(keys, batch_size, window)) {
      EXPECT_LE(static_cast<int64_t>(pack.size()), batch_size);
      for (const int64_t i : pack) {
        EXPECT_EQ(keys[i], keys[pack.front()]);
        seen.push_back(i);
      }
    }
    std::sort(seen.begin(), seen.end());
    ASSERT_EQ(seen.size(), keys.size());
    for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], static_cast<int64_t>(i));
  }
}

TEST(BestBatchSize, StopsWhereMoreDoesNotPay) {
  const auto measured = [](std::map<int64_t, double> seconds, int64_t most, double budget) {
    return best_batch_size([&](int64_t n) { return seconds.contains(n) ? std::optional(seconds.at(n)) : std::nullopt; },
                           most, budget);
  };
  EXPECT_EQ(measured({{1, 0.1}, {2, 0.12}, {4, 0.2}, {8, 0.39}}, 32, 10), 4);  // 8: 0.04875 against 0.05
  EXPECT_EQ(measured({{1, 0.1}, {2, 0.2}}, 32, 10), 1);
  EXPECT_EQ(measured({{1, 0.1}, {2, 0.11}, {4, 0.12}}, 2, 10), 2);
  EXPECT_EQ(measured({{1, 0.1}, {2, 0.11}}, 32, 10), 2) << "4 do not fit";
  EXPECT_EQ(measured({{1, 5.0}, {2, 6.0}}, 32, 2), 1) << "measuring would take longer than it wins";
}

}  // namespace
}  // namespace easel
