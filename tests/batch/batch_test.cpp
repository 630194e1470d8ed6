// Names and where pictures go.
#include "easel/batch.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <fstream>

#include "batch/numbered_names.h"

namespace easel {
namespace {

namespace fs = std::filesystem;

// An empty folder, removed at the end of the test.
class BatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "easel-batch-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(folder_); }

  void make(const std::string& name) const { std::ofstream(folder_ / name) << "there before"; }

  fs::path folder_;
};

std::string joined(const Faults& faults) {
  std::string text;
  for (const std::string& fault : faults.list()) text += fault + "\n";
  return text;
}

void expect_fault(const Faults& faults, const std::string& words) {
  EXPECT_NE(joined(faults).find(words), std::string::npos) << words << " in: " << joined(faults);
}

std::string content(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// ---- names --------------------------------------------------------------------------------------------------------

TEST(NameTemplate, EveryField) {
  Faults faults;
  const NameTemplate name("x/{index}_{seed}_{prompt}_{prompt:5}_{sampler}_{model}.png", "-o", faults);
  EXPECT_TRUE(faults.empty()) << joined(faults);
  EXPECT_EQ(name({.index = 12, .seed = 3, .prompt = "a red fox, at night", .sampler = "ddim", .model = "tiny"}),
            "x/00012_3_a-red-fox-at-night_a-red_ddim_tiny.png");
  EXPECT_TRUE(name.has("index"));
  EXPECT_TRUE(name.has("model"));
}

TEST(NameTemplate, IndexesSortAndGrow) {
  Faults faults;
  const NameTemplate name("{index}", "-o", faults);
  EXPECT_EQ(name({.index = 0}), "00000");
  EXPECT_EQ(name({.index = 123456}), "123456");
  EXPECT_FALSE(name.has("seed"));
}

TEST(NameTemplate, FaultsAreListedTogether) {
  Faults faults;
  NameTemplate("{indx}-{prompt:0}-{prompt:x}-{seed:3}-{prompt:201}-{model", "-o", faults);
  ASSERT_EQ(faults.list().size(), 6u) << joined(faults);
  expect_fault(faults, "-o: {indx} is no field of a name; known: {index}, {seed}, {prompt:40}, {sampler}, {model}");
  expect_fault(faults, "-o: {prompt:0}: expected a length from 1 to 200");
  expect_fault(faults, "-o: {prompt:x}: expected a length");
  expect_fault(faults, "-o: {seed:3}: only {prompt:N} takes a length");
  expect_fault(faults, "is not closed");
}

TEST(Slug, KeepsLettersOfEveryScript) {
  EXPECT_EQ(slug("A photo of: a/b\\c  \"d\"...", 40), "A-photo-of-a-b-c-d");
  EXPECT_EQ(slug("별이 빛나는 밤", 40), "별이-빛나는-밤");
  EXPECT_EQ(slug("नमस्ते दुनिया", 40), "नमस्ते-दुनिया");
  EXPECT_EQ(slug("Größe 42, Ελλάδα", 40), "Größe-42-Ελλάδα");
  EXPECT_EQ(slug("../../etc/passwd", 40), "etc-passwd");
  EXPECT_EQ(slug("a\nb\tc", 40), "a-b-c");
}

TEST(Slug, NeverEmpty) {
  EXPECT_EQ(slug("", 40), "untitled");
  EXPECT_EQ(slug("🦊!?", 40), "untitled");
}

TEST(Slug, CutsBetweenCharacters) {
  EXPECT_EQ(slug("abcdef", 3), "abc");
  EXPECT_EQ(slug("ab cdef", 3), "ab");  // a dash at the end says nothing
  EXPECT_EQ(slug("ab cdef", 4), "ab-c");
  EXPECT_EQ(slug("별이빛", 2), "별이");
  EXPECT_EQ(slug("xe\u0301y", 2), "x");  // e and its accent stay together
  EXPECT_EQ(slug("xe\u0301y", 3), "xe\u0301");
}

// ---- outputs ------------------------------------------------------------------------------------------------------

NameFacts facts(int64_t i) { return {.index = i, .seed = 5, .prompt = "p", .sampler = "ddim", .model = "m"}; }

std::vector<NameFacts> facts_of(int64_t pictures) {
  std::vector<NameFacts> all;
  for (int64_t i = 0; i < pictures; ++i) all.push_back(facts(i));
  return all;
}

// What write() says against a name.
std::string refusal(Outputs& outputs, const NameFacts& name, const std::string& bytes) {
  try {
    outputs.write(name, bytes);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "";
}

TEST_F(BatchTest, NumberedNamesGoOn) {
  EXPECT_EQ(next_free_index(folder_), 0);
  for (const char* name : {"00000-1.png", "00041-9.png", "00050-x.png", "00060-1.jpg", "-1-2.png", "77.png"})
    make(name);
  EXPECT_EQ(next_free_index(folder_), 42);
  EXPECT_THROW(next_free_index(folder_ / "missing"), Error);
}

TEST_F(BatchTest, WithoutOutputTheNextFreeIndexIsTaken) {
  Faults faults;
  Outputs outputs({.output = {}, .outdir = (folder_ / "new/deep").string()}, 2, faults);
  outputs.check_targets(facts_of(2), faults);
  EXPECT_TRUE(faults.empty()) << joined(faults);
  outputs.prepare({});
  EXPECT_EQ(outputs.write(facts(0), "one"), folder_ / "new/deep/00000-5.png");
  make("new/deep/00001-5.png");  // another process is quicker
  EXPECT_EQ(outputs.write(facts(1), "two"), folder_ / "new/deep/00002-5.png");
  EXPECT_EQ(content(folder_ / "new/deep/00000-5.png"), "one");
  EXPECT_EQ(content(folder_ / "new/deep/00001-5.png"), "there before");
}

TEST_F(BatchTest, NumbersAreTheFirstFreeOneAndThePicturesIndex) {
  make("00006-1.png");
  Faults faults;
  Outputs outputs({.output = {}, .outdir = folder_.string()}, 5, faults);
  outputs.prepare({});
  EXPECT_EQ(outputs.write(facts(2), "c"), folder_ / "00009-5.png");  // as packs finish, not in order
  EXPECT_EQ(outputs.write(facts(0), "a"), folder_ / "00007-5.png");
  make("00008-5.png");  // another process takes this name and more
  make("00020-9.png");
  EXPECT_EQ(outputs.write(facts(1), "b"), folder_ / "00021-5.png");
  EXPECT_EQ(outputs.write(facts(3), "d"), folder_ / "00023-5.png");
  EXPECT_EQ(content(folder_ / "00008-5.png"), "there before");
}

TEST_F(BatchTest, ExistingTargetsAreRefused) {
  make("a-00001.png");
  const OutputOptions options{.output = "a-{index}.png", .outdir = folder_.string()};
  Faults faults;
  Outputs outputs(options, 3, faults);
  outputs.check_targets(facts_of(3), faults);
  ASSERT_EQ(faults.list().size(), 1u) << joined(faults);
  expect_fault(faults, "a-00001.png exists: --overwrite replaces it");
  EXPECT_EQ(outputs.obstacle_of(facts(1)), (folder_ / "a-00001.png").string() + " exists: --overwrite replaces it");
  EXPECT_EQ(outputs.obstacle_of(facts(2)), "");
  EXPECT_EQ(refusal(outputs, facts(1), "new"), (folder_ / "a-00001.png").string() + " exists");
  EXPECT_EQ(content(folder_ / "a-00001.png"), "there before");

  Faults none;
  Outputs over({.output = options.output, .outdir = options.outdir, .overwrite = true}, 3, none);
  over.check_targets(facts_of(3), none);
  EXPECT_TRUE(none.empty()) << joined(none);
  over.prepare(facts_of(3));
  EXPECT_EQ(over.obstacle_of(facts(1)), "");
  EXPECT_EQ(content(over.write(facts(1), "new")), "new");
}

TEST_F(BatchTest, OverwriteNeverTakesAPictureOfItsOwnRun) {
  Faults faults;
  Outputs outputs({.output = "{seed}.png", .outdir = folder_.string(), .overwrite = true}, 2, faults);
  make("5.png");
  EXPECT_EQ(content(outputs.write(facts(0), "first")), "first");
  EXPECT_EQ(refusal(outputs, facts(1), "second"),
            (folder_ / "5.png").string() + " is another picture of this run already");
  EXPECT_EQ(content(folder_ / "5.png"), "first");
}

TEST_F(BatchTest, AResumableRunTakesItsOwnFilesForWritten) {
  Faults faults;
  Outputs outputs({.output = {}, .outdir = folder_.string(), .resumable = true}, 3, faults);
  make("00007-1.png");
  outputs.prepare({});
  const fs::path file = folder_ / "00000-5.png";
  EXPECT_EQ(outputs.write(facts(0), "a picture"), file) << "its index is the picture's own";
  const auto written = fs::last_write_time(file);
  EXPECT_EQ(outputs.write(facts(0), "a picture"), file);
  EXPECT_EQ(fs::last_write_time(file), written) << "the same bytes need no writing";
  EXPECT_EQ(outputs.obstacle_of(facts(0)), "");
  EXPECT_EQ(refusal(outputs, facts(0), "another"), file.string() + " exists and is another picture");
  EXPECT_EQ(content(file), "a picture");
  EXPECT_EQ(content(outputs.write(facts(0), "another", /*replace=*/true)), "another");

  Outputs over({.output = {}, .outdir = folder_.string(), .overwrite = true, .resumable = true}, 3, faults);
  EXPECT_TRUE(faults.empty()) << "--overwrite has an effect there: " << joined(faults);
  EXPECT_EQ(content(over.write(facts(0), "a third")), "a third");
}

TEST_F(BatchTest, AResumableRunClearsUpAfterOneThatWasKilled) {
  const auto ago = [](int minutes) { return fs::file_time_type::clock::now() - std::chrono::minutes(minutes); };
  for (const char* name : {".easel-1.tmp", ".easel-2.tmp", "easel-3.tmp", ".easel-4.png"}) make(name);
  for (const char* name : {".easel-1.tmp", "easel-3.tmp", ".easel-4.png"}) fs::last_write_time(folder_ / name, ago(90));
  fs::last_write_time(folder_ / ".easel-2.tmp", ago(30));  // may be another shard's
  const auto left = [&](bool resumable) {
    Faults faults;
    Outputs({.output = {}, .outdir = folder_.string(), .resumable = resumable}, 1, faults).prepare({});
    return std::distance(fs::directory_iterator(folder_), fs::directory_iterator());
  };
  EXPECT_EQ(left(false), 4);
  EXPECT_EQ(left(true), 3);
  EXPECT_FALSE(fs::exists(folder_ / ".easel-1.tmp"));
}

TEST_F(BatchTest, APictureMayHaveANameOfItsOwn) {
  Faults faults;
  Outputs outputs({.output = {}, .outdir = folder_.string()}, 2, faults);
  outputs.prepare({});
  NameFacts own = facts(1);
  own.output = "class/{seed}-x.png";
  EXPECT_EQ(outputs.write(own, "x"), folder_ / "class/5-x.png") << "its folder is made";
  EXPECT_EQ(outputs.obstacle_of(own), (folder_ / "class/5-x.png").string() + " exists: --overwrite replaces it");
  EXPECT_EQ(outputs.write(facts(0), "y"), folder_ / "00000-5.png");
  NameFacts same = facts(2);
  same.output = own.output;
  outputs.check_targets({own, same}, faults);
  expect_fault(faults, "pictures 1 and 2 would both be ");
}

TEST_F(BatchTest, TargetsAreCheckedOneByOne) {
  make("b.png");
  Faults faults;
  const Outputs outputs({.output = "{prompt}/{seed}.png", .outdir = folder_.string()}, 1000, faults);
  TargetCheck check(outputs);
  for (int64_t i = 0; i < 1000; ++i)
    check.add({.index = i, .seed = static_cast<uint64_t>(i == 999 ? 1 : i), .prompt = i % 2 == 0 ? "even" : "odd"});
  check.add_to(faults);
  ASSERT_EQ(faults.list().size(), 1u) << joined(faults);
  expect_fault(faults, "pictures 1 and 999 would both be ");
  ASSERT_EQ(check.one_a_folder().size(), 2u);
  EXPECT_EQ(check.one_a_folder()[1].prompt, "odd");
}

TEST_F(BatchTest, LinksToNothingAreTakenToo) {
  fs::create_symlink("nowhere", folder_ / "link.png");
  Faults faults;
  Outputs({.output = (folder_ / "link.png").string(), .outdir = {}}, 1, faults).check_targets(facts_of(1), faults);
  expect_fault(faults, "link.png exists");
}

TEST_F(BatchTest, PicturesNeverShareAName) {
  Faults faults;
  Outputs({.output = "{seed}.png", .outdir = folder_.string(), .overwrite = true}, 2, faults)
      .check_targets(facts_of(2), faults);
  expect_fault(faults, "pictures 0 and 1 would both be " + (folder_ / "5.png").string() + ": put {index} in the name");
}

TEST_F(BatchTest, ManyFaultyNamesAreSummedUp) {
  Faults faults;
  Outputs({.output = "x{seed}.png", .outdir = folder_.string()}, 30, faults).check_targets(facts_of(30), faults);
  EXPECT_EQ(faults.list().size(), 11u);
  expect_fault(faults, "and 19 more such names");
}

TEST_F(BatchTest, WhatIsNoFile) {
  fs::create_directory(folder_ / "sub");
  const auto faults_of = [&](const std::string& output) {
    Faults faults;
    Outputs({.output = output, .outdir = {}, .overwrite = true}, 1, faults).check_targets(facts_of(1), faults);
    return faults;
  };
  expect_fault(faults_of((folder_ / "sub").string()), "is a folder");
  expect_fault(faults_of((folder_ / "sub/").string()), "names a folder");
  expect_fault(faults_of("/dev/null"), "a device or a pipe: -o - writes to standard output");
  expect_fault(faults_of(""), "the name is empty");
  expect_fault(faults_of("cat.JPG"), "pictures are written as PNG");
  expect_fault(faults_of(std::string(256, 'x')), "a name of 256 bytes is too long");
  EXPECT_TRUE(faults_of((folder_ / "cute.dog.5").string()).empty());
}

TEST(Outputs, OptionsWithoutEffect) {
  Faults faults;
  Outputs({.output = {}, .outdir = "", .overwrite = true}, 1, faults);
  expect_fault(faults, "--overwrite has no effect without -o");
  expect_fault(faults, "--outdir: the name is empty");
  Outputs({.output = "/a/b.png", .outdir = "c"}, 1, faults);
  expect_fault(faults, "--outdir has no effect");
  Outputs({.output = "b.png", .outdir = "c"}, 2, faults);
  expect_fault(faults, "-o b.png: 2 pictures need {index} or {seed} in the name");
}

TEST(Outputs, SomeNamesNeedTheCheckpoint) {
  Faults faults;
  const auto needs = [&](const char* output) {
    return Outputs({.output = output, .outdir = {}}, 1, faults).needs_checkpoint();
  };
  EXPECT_TRUE(needs("{model}.png"));
  EXPECT_TRUE(needs("{sampler}.png"));
  EXPECT_FALSE(needs("{index}{seed}{prompt}.png"));
}

TEST_F(BatchTest, FoldersAreCheckedBeforeSampling) {
  Faults faults;
  const auto prepare = [&](const OutputOptions& options) {
    try {
      Outputs(options, 1, faults).prepare(facts_of(1));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kFile);
      return std::string(error.what());
    }
    return std::string();
  };
  make("file");
  const std::string base = folder_.string();
  EXPECT_EQ(prepare({.output = base + "/missing/a.png", .outdir = {}}), "there is no folder " + base + "/missing");
  EXPECT_EQ(prepare({.output = base + "/file/a.png", .outdir = {}}), base + "/file is not a folder");
  EXPECT_NE(prepare({.output = {}, .outdir = base + "/file"}).find("--outdir"), std::string::npos);
  EXPECT_EQ(prepare({.output = base + "/a.png", .outdir = {}}), "");
}

}  // namespace
}  // namespace easel
