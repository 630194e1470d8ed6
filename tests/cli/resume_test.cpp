// Nothing is lost: manifests, resuming, shards, kill -9, signals, full disks; the same picture in every pack.
#include <fcntl.h>
#include <sys/stat.h>

#include <csignal>
#include <random>
#include <thread>

#include "cli/batch_support.h"

namespace easel::testing {
namespace {

using namespace std::chrono_literals;

class Resume : public BatchRunTest {
 protected:
  void cut(const std::string& name, std::uintmax_t size) const { fs::resize_file(folder_ / name, size); }
  void remove(const std::string& name) const { fs::remove(folder_ / name); }
  Words temporaries(const std::string& folder) const {
    Words left;
    for (const auto& entry : fs::directory_iterator(folder_ / folder)) {
      const std::string name = entry.path().filename().string();
      if (name.ends_with(".tmp")) left.push_back(name);
    }
    return left;
  }
};

// ---- resuming -----------------------------------------------------------------------------------------------------

TEST_F(Resume, OnlyWhatIsMissingOrTornIsWrittenAgain) {
  make("jobs.txt", jobs(7));
  const Words whole = {"--outdir", "out", "--resume", "--batch-size", "3"};
  const Result first = batch(whole);
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(checked_records("out/manifest.jsonl"), 7);
  const Files before = pictures("out");
  const auto written = fs::last_write_time(folder_ / "out/00000-100.png");

  const Result nothing = batch(whole);
  EXPECT_EQ(nothing.code, 0) << nothing.err;
  EXPECT_EQ(nothing.out, "");
  expect_words(nothing.err, {"7 pictures were done before"});

  remove("out/00003-103.png");
  cut("out/00004-104.png", 100);
  const Result mended = batch(with(whole, {"--progress", "json"}));
  EXPECT_EQ(mended.code, 0) << mended.err;
  // Packs are {0, 2, 3}, {1, 4} and {5, 6}; the last one's are all there.
  expect_words(mended.err, {"\"index\":0,\"step\":1,\"steps\":1,\"pictures\":3",
                            "\"index\":1,\"step\":1,\"steps\":1,\"pictures\":2"});
  EXPECT_EQ(mended.err.find("\"index\":5,\"step\""), std::string::npos);
  EXPECT_EQ(mended.out, "out/00003-103.png\nout/00004-104.png\n");
  expect_equal(pictures("out"), before);
  EXPECT_EQ(fs::last_write_time(folder_ / "out/00000-100.png"), written);
  EXPECT_EQ(checked_records("out/manifest.jsonl"), 7);
  // The batch size is the manifest's where none is given.
  remove("out/00006-106.png");
  EXPECT_EQ(batch({"--outdir", "out", "--resume"}).out, "out/00006-106.png\n");
  expect_equal(pictures("out"), before);
}

TEST_F(Resume, AnotherRunIsRefused) {
  make("jobs.txt", jobs(3));
  const Words whole = {"--outdir", "out", "--resume", "--batch-size", "2"};
  ASSERT_EQ(batch(whole).code, 0);
  remove("out/00000-100.png");
  const std::string manifest = bytes("out/manifest.jsonl");
  const auto refuses = [&](const Words& arguments, const std::string& words) {
    const Result r = draw(arguments);
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_EQ(r.out, "");
    expect_words(r.err, {words});
    EXPECT_EQ(pictures("out").size(), 2u);
    EXPECT_EQ(bytes("out/manifest.jsonl"), manifest);
  };
  refuses(of_file(with(whole, {"--sampler", "euler_a"})), "different commands: other flags, sweeps or models");
  refuses(of_file(with(whole, {"--disable-image-metadata"})), "different commands");
  refuses(of_file({"--outdir", "out", "--resume", "--batch-size", "3"}), "batch_size is 3 in this run and 2 in");
  refuses({"--from-file", "jobs.txt", "-s", "7", "--resume", "--outdir", "out"}, "base_seed is 7");
  make("jobs.txt", "another prompt\n" + jobs(2));
  refuses(of_file(whole), "picture 0 is not the one in the manifest");
}

TEST_F(Resume, WhatFailedIsTriedAgain) {
  make("jobs.txt", "a fox\na fox --init_img start.png --strength 1\nan owl\n");
  const Words whole = {"--outdir", "out", "--resume", "--batch-size", "1"};
  EXPECT_EQ(batch(whole).code, 5);
  EXPECT_EQ(draw({"a", "-s", "1", "-o", "start.png"}).code, 0);
  const Result again = batch(whole);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.out, "out/00001-101.png\n");
  EXPECT_EQ(checked_records("out/manifest.jsonl"), 3);
}

TEST_F(Resume, TheSeedOfARunWithoutOneIsKept) {
  make("jobs.txt", "a fox\nan owl\n");
  const Words whole = {"--from-file", "jobs.txt", "--outdir", "out", "--resume", "--batch-size", "1"};
  EXPECT_EQ(draw(whole).code, 0);
  const Files before = pictures("out");
  remove("out/" + names(before)[1]);
  EXPECT_EQ(draw(whole).out, "out/" + names(before)[1] + "\n");
  expect_equal(pictures("out"), before);
}

TEST_F(Resume, AFileOfAnotherPictureIsKept) {
  make("jobs.txt", "a fox\nan owl\n");
  fs::create_directory(folder_ / "out");
  make("out/00000-100.png", "somebody's");
  const Words whole = {"--outdir", "out", "--resume", "--json"};
  const Result r = batch(whole);
  EXPECT_EQ(r.code, 5) << r.err;
  expect_words(r.err, {"picture 0: out/00000-100.png exists and is another picture", "--overwrite replaces it"});
  EXPECT_EQ(objects(r.out).at(0).at("status"), "failed");
  EXPECT_EQ(objects(r.out).at(1).at("status"), "done");
  EXPECT_EQ(bytes("out/00000-100.png"), "somebody's");
  const Result over = batch(with(whole, {"--overwrite"}));
  EXPECT_EQ(over.code, 0) << over.err;
  EXPECT_EQ(checked_records("out/manifest.jsonl"), 2);
}

// ---- shards -------------------------------------------------------------------------------------------------------

TEST_F(Resume, ShardsMakeTheWhole) {
  make("jobs.txt", jobs(7));
  const Words alike = {"--batch-size", "1", "-o", "{index}-{prompt}.png"};
  ASSERT_EQ(batch(with(alike, {"--outdir", "whole", "--manifest", "whole.jsonl"})).code, 0);
  for (const char* i : {"0", "1", "2"}) {
    const std::string shard = std::string(i) + "/3";
    const Result r =
        batch(with(alike, {"--outdir", "parts", "--shard", shard, "--manifest", std::string("part") + i + ".jsonl"}));
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(lines_of(r.out).size(), shard == "0/3" ? 3u : 2u);
  }
  expect_equal(pictures("parts"), pictures("whole"));
  // Of an array's environment; done again, a file that holds the same bytes is taken for written.
  const Surroundings slurm = {.environment = {"SLURM_ARRAY_TASK_ID=5", "SLURM_ARRAY_TASK_COUNT=3",
                                              "SLURM_ARRAY_TASK_MIN=4", "SLURM_ARRAY_TASK_MAX=6"}};
  const Result again = batch(with(alike, {"--outdir", "parts", "--shard", "auto"}), "jobs.txt", slurm);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(lines_of(again.out).size(), 2u);
  expect_words(again.out, {"parts/00001-a-fox-number-1.png", "parts/00004-a-fox-number-4.png"});
}

// ---- merging ------------------------------------------------------------------------------------------------------

class Merge : public Resume {
 protected:
  void draw_shard(const std::string& shard, const std::string& manifest, const Words& more = {}) const {
    const Result r = batch(with({"--shard", shard, "--manifest", manifest, "--outdir", "out"}, more));
    EXPECT_TRUE(r.code == 0 || r.code == 5) << r.err;
  }
  Result merge(const Words& arguments) const { return run(with({"manifest", "merge"}, arguments)); }
};

TEST_F(Merge, ShardsBecomeOneManifest) {
  make("jobs.txt", jobs(5));
  draw_shard("0/2", "a.jsonl", {"--batch-size", "1"});
  draw_shard("1/2", "b.jsonl", {"--batch-size", "2"});
  const Result r = merge({"b.jsonl", "a.jsonl", "-o", "out/all.jsonl"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "out/all.jsonl\n");
  EXPECT_EQ(r.err, "");
  EXPECT_EQ(checked_records("out/all.jsonl"), 5);
  const ManifestReader all(folder_ / "out/all.jsonl");
  EXPECT_EQ(all.indices(), (std::vector<int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(all.header().shards, (std::vector<int64_t>{0, 1}));

  const Result again = merge({"a.jsonl", "b.jsonl", "--output", "out/all.jsonl"});
  EXPECT_EQ(again.code, 2) << again.err;
  EXPECT_EQ(again.out, "");
  expect_words(again.err, {"out/all.jsonl exists", "--overwrite replaces it"});
  EXPECT_EQ(merge({"a.jsonl", "b.jsonl", "-o", "out/all.jsonl", "--overwrite"}).code, 0);
}

TEST_F(Merge, WhatIsMissingIsTold) {
  make("jobs.txt", jobs(3) + "a fox --init_img none.png\n");
  draw_shard("0/3", "a.jsonl");
  draw_shard("1/3", "b.jsonl");
  const Result missing = merge({"b.jsonl", "-o", "b-alone.jsonl"});
  EXPECT_EQ(missing.code, 5);
  EXPECT_EQ(missing.out, "b-alone.jsonl\n");
  expect_words(missing.err, {"the run is not whole: nothing of shard 0/3, 2/3"});
  draw_shard("2/3", "c.jsonl");
  const Result failed = merge({"a.jsonl", "b.jsonl", "c.jsonl", "-o", "all.jsonl", "-q"});
  EXPECT_EQ(failed.code, 5);
  EXPECT_EQ(failed.err, "easel: error: 1 of 4 pictures failed\n");
}

TEST_F(Merge, WhatDoesNotBelongTogether) {
  make("jobs.txt", jobs(2));
  draw_shard("0/2", "a.jsonl");
  draw_shard("1/2", "b.jsonl", {"--sampler", "ddim"});
  const auto refuses = [&](const Words& arguments, int code, const Words& words) {
    const Words before = files();
    const Result r = run(with({"manifest"}, arguments));
    EXPECT_EQ(r.code, code) << r.err;
    EXPECT_EQ(r.out, "");
    EXPECT_EQ(files(), before);
    expect_words(r.err, words);
  };
  refuses({"merge", "a.jsonl", "b.jsonl", "-o", "c.jsonl"}, 2,
          {"different commands", "these are not shards of one run"});
  refuses({"merge", "a.jsonl", "none.jsonl", "-o", "c.jsonl"}, 3, {"none.jsonl"});
  refuses({"merge", "jobs.txt", "-o", "c.jsonl"}, 3, {"jobs.txt:1: "});
  refuses({"merge", "a.jsonl", "-o", "no/such/c.jsonl"}, 3, {"no/such/c.jsonl"});
  refuses({"merge", "--overwritten"}, 2, {"no manifests to merge", "-o is missing", "unknown option --overwritten"});
  refuses({}, 2, {"nothing to do", "easel manifest merge FILE... -o OUT"});
  refuses({"split"}, 2, {"manifest cannot split"});
  EXPECT_EQ(run({"manifest", "merge", "--help"}).code, 0);
}

// ---- kill -9, signals, full disks ---------------------------------------------------------------------------------

TEST_F(Resume, KilledAtAnyMoment) {
  constexpr int kKills = 6;
  make("jobs.txt", jobs(24));
  const Words alike = {"--batch-size", "3", "--resume"};
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(batch(with(alike, {"--outdir", "whole"})).code, 0);
  const auto whole = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);

  std::mt19937 random(7);
  const Words killed = small(of_file(with(alike, {"--outdir", "killed"})));
  for (int kill = 0; kill < kKills; ++kill) {
    Program program(killed, here());
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % static_cast<unsigned>(whole.count())));
    program.send(SIGKILL);
    program.finish();
    if (fs::exists(folder_ / "killed/manifest.jsonl")) checked_records("killed/manifest.jsonl");
  }
  const Result last = batch(with(alike, {"--outdir", "killed"}));
  EXPECT_EQ(last.code, 0) << last.err;
  expect_equal(pictures("killed"), pictures("whole"));
  EXPECT_EQ(checked_records("killed/manifest.jsonl"), 24);
}

TEST_F(Resume, TheFirstInterruptionWaitsForThePackTheSecondForNothing) {
  make("jobs.txt", jobs(8));
  const Words slow = of_file({"--batch-size", "2", "--steps", "40", "-W", "64", "-H", "64", "--dtype", "f32",
                              "--device", "cpu", "--progress", "json", "--resume", "--outdir", "out"});
  {
    Program program(slow, here());
    program.wait_for("\"step\":3,");
    program.send(SIGINT);
    const Result r = program.finish();
    EXPECT_EQ(r.code, 130) << r.err;
    EXPECT_EQ(r.out, "out/00000-100.png\n") << "its neighbour waits for a picture before it";
    expect_words(r.err, {"\"step\":40,", "interrupted: 2 of 8 pictures finished"});
    EXPECT_EQ(names(pictures("out")), (Words{"00000-100.png", "00002-102.png"}));
    EXPECT_EQ(checked_records("out/manifest.jsonl"), 2);
  }
  const Files before = pictures("out");
  for (const auto& [first, second] : {std::pair(SIGINT, SIGINT), std::pair(SIGTERM, 0)}) {
    Program program(slow, here());
    program.wait_for("\"step\":3,");
    program.send(first);
    std::this_thread::sleep_for(50ms);  // equal signals are not queued
    if (second != 0) program.send(second);
    const Result r = program.finish();
    EXPECT_TRUE(first == SIGTERM ? r.code == 143 : r.signal == SIGINT) << r.code << " " << r.signal << r.err;
    EXPECT_EQ(r.err.find("\"step\":30,"), std::string::npos) << "it stops at once";
    EXPECT_EQ(r.out, "");
    expect_equal(pictures("out"), before);
    EXPECT_EQ(checked_records("out/manifest.jsonl"), 2);
  }
}

TEST_F(Resume, AnInterruptedRunDoesNotWaitForItsReader) {
  make("jobs.txt", jobs(3));
  // Standard output is a pipe that is full.
  ASSERT_EQ(::mkfifo((folder_ / "full").c_str(), 0600), 0);
  const int full = ::open((folder_ / "full").c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  const std::string block(4096, 'x');
  while (::write(full, block.data(), block.size()) > 0) {
  }
  Program program(
      small(of_file({"--batch-size", "1", "--outdir", "out", "--manifest", "m.jsonl", "--progress", "json"})),
      here({.output_file = (folder_ / "full").string()}));
  program.wait_for("\"event\":\"picture\",\"index\":0");
  program.send(SIGTERM);
  const Result r = program.finish();
  EXPECT_EQ(r.code, 143) << r.err;
  EXPECT_EQ(checked_records("m.jsonl"), static_cast<int64_t>(pictures("out").size()));
  ::close(full);
}

TEST_F(Resume, AFullDiskEndsTheRunAndTearsNothing) {
  make("jobs.txt", jobs(12));
  const Words whole = {"--outdir", "out", "--resume", "--batch-size", "3"};
  ASSERT_EQ(batch({"--outdir", "full", "--resume", "--batch-size", "3"}).code, 0);
  // The manifest is the first file that grows beyond.
  std::uintmax_t largest = 0;
  for (const auto& [name, content] : pictures("full")) largest = std::max(largest, content.size());
  ASSERT_GT(fs::file_size(folder_ / "full/manifest.jsonl"), 0u);
  for (const rlim_t size : {static_cast<rlim_t>(2000), static_cast<rlim_t>(4000)}) {
    const Result r = batch(whole, "jobs.txt", {.file_size = size});
    EXPECT_EQ(r.code, 3) << r.err;
    expect_words(r.err, {"cannot be written: File too large"});
    EXPECT_EQ(temporaries("out"), Words{});
    if (fs::exists(folder_ / "out/manifest.jsonl")) checked_records("out/manifest.jsonl");
  }
  const Result rest = batch(whole);
  EXPECT_EQ(rest.code, 0) << rest.err;
  expect_equal(pictures("out"), pictures("full"));
}

// ---- the same picture in every pack -------------------------------------------------------------------------------

TEST_F(Resume, PicturesAreTheSameInEveryPack) {
  std::string text;
  for (int i = 0; i < 8; ++i)
    text += "a fox number " + std::to_string(i) + " --n \"cat " + std::to_string(i % 3) + "\" --cfg " +
            std::to_string(2 + i) + "\n";
  make("jobs.txt", text);
  std::vector<Image> alone;
  for (const char* size : {"1", "2", "3", "8"}) {
    const std::string folder = std::string("f") + size;
    const Result drawn = run(of_file({"--steps", "4", "-W", "64", "-H", "64", "--dtype", "f32", "--device", "cpu",
                                      "--batch-size", size, "--outdir", folder}));
    EXPECT_EQ(drawn.code, 0) << drawn.err;
    std::vector<Image> images;
    for (const std::string& path : lines_of(drawn.out)) images.push_back(read_png(folder_ / path));
    ASSERT_EQ(images.size(), 8u);
    if (alone.empty()) alone = images;
    for (std::size_t i = 0; i < images.size(); ++i)
      EXPECT_EQ(mismatch(images[i], alone[i], /*tolerance=*/1), "") << "picture " << i << " in packs of " << size;
  }
}

TEST_F(Resume, DeterministicPicturesAreBitEqual) {
  make("jobs.txt", jobs(4));
  Files first;
  for (const auto& [size, threads] :
       {std::pair("1", "1"), std::pair("2", "2"), std::pair("3", "1"), std::pair("8", "2")}) {
    const std::string folder = std::string("d") + size;
    const Result r =
        draw({"--from-file", "jobs.txt", "-s", "100", "--deterministic", "--batch-size", size, "--outdir", folder},
             {.environment = {std::string("OMP_NUM_THREADS=") + threads}});
    EXPECT_EQ(r.code, 0) << r.err;
    if (first.empty()) first = pictures(folder);
    ASSERT_EQ(first.size(), 4u);
    expect_equal(pictures(folder), first);
  }
}

}  // namespace
}  // namespace easel::testing
