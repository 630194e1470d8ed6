// Batches of small pictures by the real program, and what they leave behind.
#pragma once

#include <algorithm>
#include <map>

#include "cli/program.h"
#include "easel/image.h"
#include "easel/manifest.h"

namespace easel::testing {

namespace fs = std::filesystem;

class BatchRunTest : public CliTest {
 protected:
  using Files = std::map<std::string, std::string>;  // name → bytes

  static Words with(Words arguments, const Words& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  // jobs.txt drawn with seeds from 100 on.
  Words of_file(const Words& more, const std::string& file = "jobs.txt") const {
    return with({"--from-file", file, "-s", "100", "-t", "1"}, more);
  }
  Result batch(const Words& more, const std::string& file = "jobs.txt", Surroundings around = {}) const {
    return draw(of_file(more, file), std::move(around));
  }
  // The same to be started and looked at while it runs.
  Words small(const Words& arguments) const { return with(arguments, kSmall); }

  // The finished pictures of a folder.
  Files pictures(const std::string& folder) const {
    Files files;
    if (!fs::exists(folder_ / folder)) return files;
    for (const auto& entry : fs::directory_iterator(folder_ / folder)) {
      const std::string name = entry.path().filename().string();
      if (name.ends_with(".png")) files[name] = bytes((fs::path(folder) / name).string());
    }
    return files;
  }
  static void expect_equal(const Files& one, const Files& other) {
    EXPECT_EQ(names(one), names(other));
    for (const auto& [name, content] : one) {
      const auto same = other.find(name);
      if (same == other.end()) continue;
      EXPECT_TRUE(content == same->second) << name << " differs";
    }
  }
  static Words names(const Files& files) {
    Words all;
    for (const auto& [name, content] : files) all.push_back(name);
    return all;
  }

  static std::vector<json> objects(const std::string& lines) {
    std::vector<json> all;
    for (const std::string& line : lines_of(lines)) all.push_back(json::parse(line));
    return all;
  }

  // Every record is of a file with the recorded bytes.
  int64_t checked_records(const std::string& manifest) const {
    const ManifestReader reader(folder_ / manifest);
    for (const int64_t index : reader.indices()) {
      const ManifestRecord record = *reader.find(index);
      if (!record.is_done()) continue;
      EXPECT_EQ(sha256_of_file(record.path), record.sha256) << record.path;
    }
    return reader.size();
  }

  // Jobs whose samplers take turns, so that packs do not follow the file's order.
  static std::string jobs(int count) {
    std::string text;
    for (int i = 0; i < count; ++i)
      text += "a fox number " + std::to_string(i) + " --cfg " + std::to_string(2 + i % 3) +
              (i % 3 == 1 ? " --sampler euler_a\n" : "\n");
    return text;
  }
};

}  // namespace easel::testing
