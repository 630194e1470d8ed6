// {a|b|c} and __file__.
#include <set>

#include "batch/batch_support.h"

namespace easel {
namespace {

using namespace testing;

class Wildcards : public FolderTest {
 protected:
  WildcardSource source() const { return WildcardSource(folder_); }
  std::string one(std::string_view prompt, uint64_t seed = 1) const {
    Faults faults;
    const auto text = expand(prompt, source(), seed, faults);
    EXPECT_TRUE(text) << prompt << ": " << joined(faults);
    return text.value_or("");
  }
  std::set<std::string> all(std::string_view prompt, int seeds = 400) const {
    std::set<std::string> texts;
    for (int seed = 0; seed < seeds; ++seed) texts.insert(one(prompt, static_cast<uint64_t>(seed)));
    return texts;
  }
  // Of both: what expand() refuses and what check_wildcards() says.
  std::string fault(std::string_view prompt) const {
    Faults faults, checked;
    EXPECT_FALSE(expand(prompt, source(), 1, faults)) << prompt;
    check_wildcards(prompt, source(), checked);
    EXPECT_EQ(faults.list().size(), 1u) << joined(faults);
    EXPECT_EQ(joined(faults), joined(checked));
    return joined(faults);
  }
  std::string checked(std::string_view prompt) const {
    Faults faults;
    check_wildcards(prompt, source(), faults);
    return joined(faults);
  }
};

TEST_F(Wildcards, ChoicesNest) {
  EXPECT_EQ(all("a {red|green} {cat|dog}"),
            (std::set<std::string>{"a red cat", "a red dog", "a green cat", "a green dog"}));
  EXPECT_EQ(all("{a|b{1|2|}}"), (std::set<std::string>{"a", "b1", "b2", "b"}));
  EXPECT_EQ(all("x{|}y"), (std::set<std::string>{"xy"}));
  EXPECT_EQ(one("[a|b] (c:1.2) | d"), "[a|b] (c:1.2) | d");
}

TEST_F(Wildcards, Escapes) {
  EXPECT_EQ(one(R"(\{a\|b\} \__c__ \(d\) \n)"), R"({a|b} __c__ \(d\) \n)");
  EXPECT_EQ(all(R"({a\|b|c\}})"), (std::set<std::string>{"a|b", "c}"}));
  EXPECT_EQ(one("snake_case and __ and ____ and a__b"), "snake_case and __ and ____ and a__b");
  EXPECT_EQ(one("__not a name__"), "__not a name__");
  EXPECT_EQ(one("trailing \\"), "trailing \\");
}

TEST_F(Wildcards, WhatIsPlainStays) {
  for (const char* plain : {"", "a cat", "a_b", "a|b", R"(\(x\))"}) {
    EXPECT_FALSE(has_wildcards(plain)) << plain;
    EXPECT_EQ(one(plain), plain);
  }
  for (const char* some : {"{a|b}", "__x__", R"(\{)", R"(\|)", "}"}) EXPECT_TRUE(has_wildcards(some)) << some;
}

// The same on every machine and in every version. SplitMix64's first number of seed 0 is 0xe220a8397b1dcdaf.
TEST_F(Wildcards, TheSameSeedChoosesTheSame) {
  std::string chosen;
  for (uint64_t seed = 0; seed < 12; ++seed) chosen += one("{a|b|c|d|e}", seed);
  EXPECT_EQ(chosen, "eccacbdbddab");
  EXPECT_EQ(one("{a|b|c|d|e}{a|b|c|d|e}{a|b|c|d|e}", 18446744073709551615u), "eeb");
}

TEST_F(Wildcards, ChoicesAreEvenAndIndependentOfNeighbours) {
  constexpr int kSeeds = 30'000;
  std::map<std::string, int> pairs;
  for (int seed = 0; seed < kSeeds; ++seed) ++pairs[one("{a|b|c}{x|y}", static_cast<uint64_t>(seed))];
  ASSERT_EQ(pairs.size(), 6u);
  for (const auto& [text, count] : pairs) EXPECT_NEAR(count, kSeeds / 6, 300) << text;  // 4.6 standard deviations
}

TEST_F(Wildcards, Files) {
  write("animal.txt", "\xEF\xBB\xBF# animals\n  cat \r\n\ndog\n#fox\n{big|small} owl\n");
  write("sub/where.txt", "in __place__");
  write("place.txt", "Rome\nSeoul");
  write("hair_color.txt", "red");
  write("색.txt", "blau");
  EXPECT_EQ(all("a __animal__"), (std::set<std::string>{"a cat", "a dog", "a #fox", "a big owl", "a small owl"}));
  EXPECT_EQ(all("{x|__sub/where__}"), (std::set<std::string>{"x", "in Rome", "in Seoul"}));
  EXPECT_EQ(one("__hair_color__ __색__"), "red blau");
  EXPECT_EQ(checked("__animal__ {__sub/where__|__hair_color__}"), "");
}

TEST_F(Wildcards, FaultsOfFiles) {
  write("empty.txt", "# nothing\n\n");
  write("latin.txt", "caf\xE9\n");
  write("nul.txt", std::string_view("a\0b", 3));
  write("bad.txt", "{a|b\n");
  EXPECT_EQ(fault("a __missing__"), "__missing__: there is no file " + (folder_ / "missing.txt").string() + "\n");
  expect_words(fault("__empty__"), "empty.txt has no choice in it");
  expect_words(fault("__latin__"), "latin.txt: not valid UTF-8 at byte 3");
  expect_words(fault("__nul__"), "it holds a NUL byte");
  expect_words(fault("__bad__"), "__bad__: a '{' is not closed: {a|b");
  expect_words(fault("__../x__"), "__../x__ is no name below the folder");
  expect_words(fault("__/etc/passwd__"), "is no name below the folder");
  Faults faults;
  EXPECT_FALSE(expand("__x__", WildcardSource(), 1, faults));
  EXPECT_EQ(joined(faults), "__x__: no folder of wildcards is given; \\__ is literal\n");
}

TEST_F(Wildcards, EveryChoiceIsCheckedNotOnlyTheChosen) {
  write("a.txt", "x\n__missing__\ny\n{z\n");
  const std::string faults = checked("{b|c|__a__}");
  expect_words(faults, "__missing__: there is no file");
  expect_words(faults, "__a__: a '{' is not closed");
}

TEST_F(Wildcards, FilesWithinThemselves) {
  write("a.txt", "__b__");
  write("b.txt", "x __a__");
  expect_words(checked("__a__"), "__a__ is within itself: a -> b -> a");
  Faults faults;
  EXPECT_FALSE(expand("__a__", source(), 1, faults));
  expect_words(joined(faults), "files of wildcards name each other more than 20 deep");
  for (int i = 0; i < 30; ++i) write("c" + std::to_string(i) + ".txt", "__c" + std::to_string(i + 1) + "__");
  expect_words(fault("__c0__"), "__c20__: files of wildcards name each other more than 20 deep");
}

TEST_F(Wildcards, FilesThatMultiplyAreStopped) {
  for (int i = 0; i < 18; ++i) {
    std::string line;
    for (int k = 0; k < 10; ++k) line += "__d" + std::to_string(i + 1) + "__";
    write("d" + std::to_string(i) + ".txt", line);
  }
  write("d18.txt", "lol");
  EXPECT_EQ(checked("__d0__"), "");
  Faults faults;
  EXPECT_FALSE(expand("__d0__", source(), 1, faults));
  expect_words(joined(faults), "its wildcards give more than");
}

TEST_F(Wildcards, FaultsOfBraces) {
  expect_words(fault("a {b|c"), "a '{' is not closed: {b|c (\\{ and \\} are literal braces)");
  expect_words(fault("a b} c"), "a '}' without its '{': } c");
  expect_words(fault("a {b} c"), "braces without '|' choose nothing: {b} c");
  expect_words(fault("{}"), "braces without '|' choose nothing");
  expect_words(fault("{a|{b|c}"), "a '{' is not closed: {a|{b|c}");
  expect_words(fault("{2$$a|b|c}"), "'$$' is not supported: braces choose one");
  expect_words(fault("{1-2$$a|b|c}"), "'$$' is not supported");
  expect_words(fault(std::string(60, '{')), "braces are nested deeper than 50");
  expect_words(fault(std::string(1'000'000, '{')), "braces are nested deeper than 50");
}

TEST_F(Wildcards, InJobs) {
  write("animal.txt", "cat\ndog\nowl\n");
  const fs::path file =
      write("jobs.txt",
            "a __animal__ --n {x|y|z} --batch-count 40\n{\"prompt\": \"{a|b}\", \"wildcards\": false}\n"
            "c {d\ne __none__\n");
  const JobOptions options{.flags = {}, .base_seed = 5, .wildcards = std::make_shared<WildcardSource>(folder_)};
  std::set<std::string> prompts, pairs;
  std::string faults;
  JobStream stream(JobReader(file), options);
  for (JobEvent event = stream.next(); event.kind != JobEvent::Kind::kEnd; event = stream.next()) {
    faults += joined(event.faults);
    if (event.kind != JobEvent::Kind::kPicture) continue;
    const Request& request = event.picture.request;
    prompts.insert(*request.prompt);
    if (request.negative_prompt) pairs.insert(*request.prompt + "/" + *request.negative_prompt);
    if (event.picture.index == 3) {
      EXPECT_EQ(request.prompt, one("a __animal__", 8)) << "its own seed chooses";
    }
  }
  EXPECT_EQ(prompts, (std::set<std::string>{"a cat", "a dog", "a owl", "{a|b}"}));
  EXPECT_EQ(pairs.size(), 9u) << "the two prompts choose apart";
  expect_words(faults, "jobs.txt:3: a '{' is not closed");
  expect_words(faults, "jobs.txt:4: __none__: there is no file");
  const JobCheck check = check_jobs(file, {}, options);
  EXPECT_EQ(check.fault_count, 2);
  EXPECT_EQ(joined(check.faults), faults);
  EXPECT_TRUE(check_jobs(file, {}, {}).is_good()) << "without wildcards braces are text";
}

}  // namespace
}  // namespace easel
