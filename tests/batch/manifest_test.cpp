// Manifests: written, killed, resumed, merged.
#include "easel/manifest.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <chrono>
#include <limits>
#include <random>

#include "batch/batch_support.h"

namespace easel {
namespace {

using namespace testing;

constexpr uint64_t kLargestSeed = std::numeric_limits<uint64_t>::max();

class Manifest : public FolderTest {
 protected:
  ManifestRecord done(int64_t index, const std::string& bytes = "picture") const {
    ManifestRecord record;
    record.index = record.job = index;
    record.request["prompt"] = "p" + std::to_string(index);
    record.request["seed"] = kLargestSeed - static_cast<uint64_t>(index);
    record.request["cfg_scale"] = 7.1;
    record.path = write(std::to_string(index) + ".png", bytes);
    record.sha256 = sha256_of(bytes);
    record.seconds["sample"] = 0.25;
    return record;
  }
  ManifestRecord failed(int64_t index) const {
    ManifestRecord record = done(index);
    record.path = "";
    record.sha256 = "";
    record.error = "values are not finite";
    return record;
  }
  // A manifest of the pictures of one shard.
  fs::path make(const std::string& name, const ManifestHeader& header,
                const std::vector<ManifestRecord>& records) const {
    ManifestWriter writer = ManifestWriter::create(folder_ / name, header);
    for (const ManifestRecord& record : records) writer.add(record);
    return folder_ / name;
  }
  std::string damage_of(const std::string& text) const {
    write("bad.jsonl", text);
    const std::string what = error_of(ErrorKind::kFile, [&] { ManifestReader reader(folder_ / "bad.jsonl"); });
    expect_words(what, "bad.jsonl");
    return what;
  }

  const ManifestHeader header_{.base_seed = kLargestSeed, .batch_size = 4, .command = "c"};
  const std::string first_ =
      "{\"easel_manifest\":1,\"base_seed\":18446744073709551615,\"batch_size\":4,"
      "\"shard_count\":1,\"shards\":[0],\"command\":\"c\"}\n";
};

TEST_F(Manifest, Sha256) {
  // FIPS 180-4's examples.
  EXPECT_EQ(sha256_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string million(1'000'000, 'a');
  EXPECT_EQ(sha256_of_file(write("a", million)), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  error_of(ErrorKind::kFile, [&] { sha256_of_file(folder_ / "missing"); });
}

TEST_F(Manifest, WhatIsWrittenIsRead) {
  ManifestRecord second = done(7);
  second.id = "job \"7\"";
  const fs::path file = make("m.jsonl", header_, {done(2), second, failed(5)});
  EXPECT_TRUE(read("m.jsonl").starts_with(first_)) << read("m.jsonl");
  const ManifestReader reader(file);
  EXPECT_EQ(reader.header(), header_);
  EXPECT_FALSE(reader.is_torn());
  EXPECT_EQ(reader.whole_bytes(), fs::file_size(file));
  EXPECT_EQ(reader.indices(), (std::vector<int64_t>{2, 5, 7}));
  const auto record = reader.find(7);
  ASSERT_TRUE(record);
  EXPECT_EQ(json(record->request), json(second.request));
  EXPECT_EQ(record->request["seed"], kLargestSeed - 7);
  EXPECT_EQ(record->path, second.path);
  EXPECT_EQ(record->sha256, second.sha256);
  EXPECT_EQ(record->id, second.id);
  EXPECT_EQ(record->seconds["sample"], 0.25);
  EXPECT_EQ(reader.find(5)->error, "values are not finite");
  EXPECT_FALSE(reader.find(5)->is_done());
  EXPECT_FALSE(reader.find(3));
  EXPECT_FALSE(reader.find(8));
}

TEST_F(Manifest, PathsAreRelativeToIt) {
  fs::create_directories(folder_ / "run");
  ManifestRecord record = done(1);
  record.path = write("run/pictures/1.png", "picture");
  make("run/m.jsonl", header_, {record});
  expect_words(read("run/m.jsonl"), "\"path\":\"pictures/1.png\"");
  fs::rename(folder_ / "run", folder_ / "moved");
  const ManifestReader reader(folder_ / "moved/m.jsonl");
  EXPECT_EQ(reader.find(1)->path, folder_ / "moved/pictures/1.png");
  Faults faults;
  EXPECT_EQ(picture_state(reader, 1, record.request, faults), PictureState::kDone);
}

TEST_F(Manifest, StatesOfPictures) {
  const fs::path file = make("m.jsonl", header_, {done(0), done(1), done(2), failed(3)});
  write("1.png", "other bytes");
  fs::remove(folder_ / "2.png");
  const ManifestReader reader(file);
  Faults faults;
  const auto state = [&](int64_t index) { return picture_state(reader, index, done(100).request, faults); };
  const auto state_of = [&](int64_t index) {
    ManifestRecord record;
    record.request["cfg_scale"] = 7.1;  // another order of the same
    record.request["prompt"] = "p" + std::to_string(index);
    record.request["seed"] = kLargestSeed - static_cast<uint64_t>(index);
    return picture_state(reader, index, record.request, faults);
  };
  EXPECT_EQ(state_of(0), PictureState::kDone);
  EXPECT_EQ(state_of(1), PictureState::kLost);
  EXPECT_EQ(state_of(2), PictureState::kLost);
  EXPECT_EQ(state_of(3), PictureState::kFailed);
  EXPECT_EQ(state_of(4), PictureState::kNew);
  EXPECT_TRUE(faults.empty()) << joined(faults);
  EXPECT_EQ(state(0), PictureState::kDone);
  expect_words(joined(faults),
               "picture 0 is not the one in the manifest: prompt is \"p100\" here and \"p0\" there, seed is");
}

TEST_F(Manifest, OtherRequestsAreNamed) {
  const ManifestReader reader(make("m.jsonl", header_, {done(0)}));
  nlohmann::ordered_json request = done(0).request;
  request.erase("cfg_scale");
  request["steps"] = 5;
  Faults faults;
  picture_state(reader, 0, request, faults);
  EXPECT_EQ(joined(faults),
            "picture 0 is not the one in the manifest: cfg_scale is not given here and 7.1 there, "
            "steps is 5 here and not given there\n");
}

TEST_F(Manifest, TheLastRecordCounts) {
  const fs::path file = make("m.jsonl", header_, {failed(0), done(0), done(1), failed(1)});
  const ManifestReader reader(file);
  EXPECT_EQ(reader.size(), 2);
  EXPECT_TRUE(reader.find(0)->is_done());
  EXPECT_FALSE(reader.find(1)->is_done());
  ManifestRecord other = done(0);
  other.request["steps"] = 3;
  make("n.jsonl", header_, {done(0), other});
  expect_words(error_of(ErrorKind::kFile, [&] { ManifestReader n(folder_ / "n.jsonl"); }),
               "picture 0 is recorded with two different requests");
}

TEST_F(Manifest, OnlyATornLastLineIsForgiven) {
  const fs::path file = make("m.jsonl", header_, {done(0), done(1)});
  const std::string whole = read("m.jsonl");
  const std::size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  for (std::size_t cut = last; cut < whole.size(); ++cut) {
    write("m.jsonl", whole.substr(0, cut));
    const ManifestReader reader(file);
    EXPECT_EQ(reader.indices(), (std::vector<int64_t>{0}));
    EXPECT_EQ(reader.is_torn(), cut > last);
    EXPECT_EQ(reader.whole_bytes(), last);
  }
  write("m.jsonl", whole + std::string(100, '\0'));  // as after a power cut
  EXPECT_EQ(ManifestReader(file).size(), 2);
  const std::size_t header_end = whole.find('\n');
  for (std::size_t cut : {std::size_t{0}, header_end / 2, header_end}) {
    write("m.jsonl", whole.substr(0, cut));
    expect_words(error_of(ErrorKind::kFile, [&] { ManifestReader reader(file); }), "it is empty, so it is no manifest");
  }
}

TEST_F(Manifest, DamageIsNamed) {
  const std::string good =
      "{\"index\":0,\"job\":0,\"status\":\"failed\",\"error\":\"e\",\"seconds\":{},\"request\":{}}\n";
  write("bad.jsonl", first_ + good);
  EXPECT_EQ(ManifestReader(folder_ / "bad.jsonl").size(), 1);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = first_ + good;
    text.replace(text.find(from), from.size(), to);
    return damage_of(text);
  };
  expect_words(damage_of("a cat\n"), "bad.jsonl:1: not valid JSON");
  expect_words(damage_of("{\"prompt\":\"a\"}\n"), "bad.jsonl:1: its first line is no manifest's");
  expect_words(with("manifest\":1", "manifest\":2"), "a manifest of version 2; this program reads version 1");
  expect_words(with("\"batch_size\":4", "\"batch_size\":0"),
               "bad.jsonl:1: batch_size 0: expected a whole number from 1");
  expect_words(with("\"base_seed\":", "\"base_seed\":-"), "base_seed");
  expect_words(with("[0]", "[1]"), "shards: 1: expected rising numbers below shard_count");
  expect_words(with("[0]", "[]"), "shards: expected a list of numbers");
  expect_words(with("\"shard_count\":1", "\"shard_count\":1000000000000"), "shard_count: expected at most 1000000");
  expect_words(with("\"command\":\"c\"", "\"command\":\"c\",\"x\":1"), "unknown key \"x\"");
  expect_words(with("\"index\":0", "\"index\":-1"), "bad.jsonl:2: index -1: expected a whole number from 0");
  expect_words(with("\"index\":0", "\"index\":9223372036854775808"), "index 9223372036854775808: expected");
  expect_words(with("\"index\":0,", ""), "bad.jsonl:2: index is missing");
  expect_words(with("\"index\":0,", "\"index\":0,\"index\":1,"), "\"index\" is given twice");
  expect_words(with("\"failed\"", "\"lost\""), "status \"lost\": expected done or failed");
  expect_words(with("\"failed\"", "\"done\""), "path is missing");
  expect_words(with("\"failed\",\"error\":\"e\"", "\"done\",\"path\":\"a\",\"sha256\":\"00\""),
               "expected 64 hex digits");
  expect_words(with("\"error\":\"e\"", "\"error\":\"\""), "error \"\": expected a text");
  expect_words(with("\"request\":{}", "\"request\":[]"), "request: expected an object");
  expect_words(with("\"job\":0", "\"job\":0,\"why\":1"), "unknown key \"why\"");
  expect_words(damage_of(first_ + good + "\n" + good), "bad.jsonl:3: not valid JSON");
  expect_words(damage_of(first_ + first_), "bad.jsonl:2: ");
  expect_words(damage_of(first_ + std::string(10, '\0') + "\n" + good), "bad.jsonl:2: not valid JSON");
  std::string sharded = first_ + good;
  sharded.replace(sharded.find("\"shard_count\":1"), 15, "\"shard_count\":2");
  sharded.replace(sharded.find("\"job\":0"), 7, "\"job\":3");
  expect_words(damage_of(sharded), "bad.jsonl:2: job 3 belongs to shard 1/2, which this manifest is not of");
  std::string many = first_;
  for (int i = 0; i < 50; ++i) many += "x\n";
  expect_words(damage_of(many), "and 30 more damaged lines");
  expect_words(error_of(ErrorKind::kFile, [&] { ManifestReader reader(folder_ / "missing"); }), "cannot be opened");
  expect_words(error_of(ErrorKind::kFile, [&] { ManifestReader reader(folder_); }), "Is a directory");
}

// ---- resuming -----------------------------------------------------------------------------------------------------

TEST_F(Manifest, ResumeCutsTheTornLineAndGoesOn) {
  const fs::path file = make("m.jsonl", header_, {done(0), done(1)});
  const std::string whole = read("m.jsonl");
  write("m.jsonl", whole.substr(0, whole.size() - 5));
  {
    ManifestWriter writer = ManifestWriter::resume(file, {.base_seed = {}, .batch_size = {}, .command = "c"});
    EXPECT_EQ(writer.header().base_seed, kLargestSeed);
    EXPECT_EQ(writer.header().batch_size, 4);
    writer.add(done(1));
    writer.add(done(2));
    writer.sync();
  }
  const ManifestReader reader(file);
  EXPECT_FALSE(reader.is_torn());
  EXPECT_EQ(reader.indices(), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_TRUE(read("m.jsonl").starts_with(whole));
}

TEST_F(Manifest, ResumeIsOfTheSameRun) {
  make("m.jsonl", header_, {});
  const auto refused = [&](const RunIdentity& run) {
    return error_of(ErrorKind::kUsage, [&] { ManifestWriter::resume(folder_ / "m.jsonl", run); });
  };
  expect_words(refused({.base_seed = 3, .batch_size = 4, .command = "c"}),
               "base_seed is 3 in this run and 18446744073709551615 in");
  expect_words(refused({.base_seed = {}, .batch_size = 8, .command = "c"}), "batch_size is 8 in this run and 4 in");
  expect_words(refused({.base_seed = {}, .batch_size = {}, .command = "d"}), "are of different commands");
  expect_words(refused({.base_seed = {}, .batch_size = {}, .shard = {0, 2}, .command = "c"}),
               "shard_count is 2 in this run");
  make("s.jsonl", {.shard_count = 2, .shards = {1}, .command = "c"}, {});
  expect_words(error_of(ErrorKind::kUsage,
                        [&] {
                          ManifestWriter::resume(folder_ / "s.jsonl",
                                                 {.base_seed = {}, .batch_size = {}, .shard = {0, 2}, .command = "c"});
                        }),
               "this run is shard 0/2");
  error_of(ErrorKind::kFile, [&] { ManifestWriter::resume(folder_ / "missing", {}); });
}

TEST_F(Manifest, OneWriterAtATime) {
  ManifestWriter writer = ManifestWriter::create(folder_ / "m.jsonl", header_);
  expect_words(error_of(ErrorKind::kUsage, [&] { ManifestWriter::create(folder_ / "m.jsonl", header_); }),
               "exists: it is the manifest of another run");
  expect_words(
      error_of(
          ErrorKind::kFile,
          [&] { ManifestWriter::resume(folder_ / "m.jsonl", {.base_seed = {}, .batch_size = {}, .command = "c"}); }),
      "another process is writing to it");
  EXPECT_EQ(ManifestReader(folder_ / "m.jsonl").size(), 0) << "it may be read meanwhile";
}

// A limit on the size of files stands for a full disk: the write stops in the middle of the record.
TEST_F(Manifest, AFullDiskTearsNothing) {
  ManifestWriter writer = ManifestWriter::create(folder_ / "m.jsonl", header_);
  writer.add(done(0));
  const std::string before = read("m.jsonl");
  const ManifestRecord second = done(1), third = done(2);
  rlimit old;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small{before.size() + 20, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string what = error_of(ErrorKind::kFile, [&] { writer.add(second); });
  ::setrlimit(RLIMIT_FSIZE, &old);
  expect_words(what, "m.jsonl: cannot be written");
  EXPECT_EQ(read("m.jsonl"), before);
  writer.add(third);
  EXPECT_EQ(ManifestReader(folder_ / "m.jsonl").indices(), (std::vector<int64_t>{0, 2}));
}

// Killed at any moment and resumed, the manifest ends as of an uninterrupted run.
TEST_F(Manifest, KilledAndResumed) {
  constexpr int64_t kPictures = 200;
  constexpr int kKills = 60;
  for (int64_t i = 0; i < kPictures; ++i) done(i);
  const fs::path file = folder_ / "m.jsonl";
  const auto run = [&] {
    const RunIdentity same{.base_seed = {}, .batch_size = {}, .command = "c"};
    ManifestWriter writer =
        fs::exists(file) ? ManifestWriter::resume(file, same) : ManifestWriter::create(file, header_);
    const ManifestReader reader(file);
    Faults faults;
    for (int64_t i = 0; i < kPictures; ++i) {
      const ManifestRecord record = done(i);  // the same bytes again
      if (picture_state(reader, i, record.request, faults) != PictureState::kDone) writer.add(record);
    }
    EXPECT_TRUE(faults.empty()) << joined(faults);
  };
  std::mt19937 random(3);
  int64_t begun = 0;
  for (int kills = 0; kills < kKills; ++kills) {
    const pid_t child = ::fork();
    if (child == 0) {
      run();
      ::_exit(0);
    }
    ASSERT_GT(child, 0);
    ::usleep(random() % 15'000);
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (fs::exists(file)) begun = ManifestReader(file).size();  // throws if anything but the end is damaged
  }
  EXPECT_GT(begun, 0) << "no child came so far";
  const int64_t missing = kPictures - begun;
  // The pictures of the last child may be torn: they are drawn again.
  run();
  const ManifestReader reader(file);
  EXPECT_EQ(reader.size(), kPictures);
  Faults faults;
  for (int64_t i = 0; i < kPictures; ++i)
    EXPECT_EQ(picture_state(reader, i, done(i).request, faults), PictureState::kDone) << i;
  std::printf("%d kills, %lld pictures left for the last run\n", kKills, static_cast<long long>(missing));
}

// ---- merging ------------------------------------------------------------------------------------------------------

TEST_F(Manifest, ShardsMergeInOrder) {
  fs::create_directories(folder_ / "out");
  const auto header = [](std::vector<int64_t> shards) {
    return ManifestHeader{
        .base_seed = 1, .batch_size = 2, .shard_count = 3, .shards = std::move(shards), .command = "c"};
  };
  const fs::path a = make("a", header({0}), {done(3), done(0), failed(6)}),
                 b = make("b", header({1}), {done(1), done(4)}), c = make("c", header({2}), {done(5), done(2)}),
                 again = make("d", header({0}), {done(6), done(0)});
  const MergeResult partial = merge_manifests({b, a}, folder_ / "out/partial", false);
  EXPECT_EQ(partial.pictures, 5);
  EXPECT_EQ(partial.failed, 1);
  EXPECT_EQ(partial.missing_shards, (std::vector<int64_t>{2}));
  const MergeResult whole = merge_manifests({folder_ / "out/partial", c, again}, folder_ / "out/m", false);
  EXPECT_EQ(whole.pictures, 7);
  EXPECT_EQ(whole.failed, 0) << "done where another failed";
  EXPECT_TRUE(whole.missing_shards.empty());
  const ManifestReader reader(folder_ / "out/m");
  EXPECT_EQ(reader.header(), header({0, 1, 2}));
  std::string text = read("out/m"), order;
  for (std::size_t at = 0; (at = text.find("\"index\":", at)) != std::string::npos; at += 8) order += text[at + 8];
  EXPECT_EQ(order, "0123456");
  expect_words(text, "\"path\":\"../6.png\"");
  Faults faults;
  for (int64_t i = 0; i < 7; ++i)
    EXPECT_EQ(picture_state(reader, i, done(i).request, faults), PictureState::kDone) << i;
  EXPECT_TRUE(faults.empty()) << joined(faults);
  expect_words(error_of(ErrorKind::kUsage, [&] { merge_manifests({a, b}, folder_ / "out/m", false); }), "exists");
  EXPECT_EQ(merge_manifests({a, b}, folder_ / "out/m", true).pictures, 5);
  EXPECT_EQ(merge_manifests({b, b}, folder_ / "out/twice", false).pictures, 2);
  for (const auto& entry : fs::directory_iterator(folder_ / "out"))
    EXPECT_EQ(entry.path().string().find(".tmp"), std::string::npos) << entry.path();
}

TEST_F(Manifest, OtherRunsDoNotMerge) {
  const ManifestHeader header{.base_seed = 1, .batch_size = 2, .shard_count = 2, .shards = {0}, .command = "c"};
  const fs::path a = make("a", header, {done(0), done(2)});
  const auto refused = [&](const ManifestHeader& other, const std::vector<ManifestRecord>& records) {
    fs::remove(folder_ / "b");
    make("b", other, records);
    const std::string what = error_of(ErrorKind::kUsage, [&] {
      merge_manifests({a, folder_ / "b"}, folder_ / "m", false);
    });
    EXPECT_FALSE(fs::exists(folder_ / "m"));
    return what;
  };
  ManifestHeader other = header;
  other.base_seed = 2;
  other.batch_size = 3;  // no fault: each process measures its own
  other.shard_count = 4;
  other.command = "d";
  const std::string all = refused(other, {});
  for (const char* field : {"base_seed is 1 in ", "shard_count is 2 in ", "different commands"})
    expect_words(all, field);
  EXPECT_EQ(all.find("batch_size"), std::string::npos);
  ManifestRecord record = done(2);
  record.request["steps"] = 9;
  expect_words(refused(header, {record}), "picture 2 has different requests in ");
  record = done(2);
  record.sha256 = sha256_of("x");
  expect_words(refused(header, {record}), "picture 2 has different bytes (sha256) in ");
  error_of(ErrorKind::kUsage, [&] { merge_manifests({}, folder_ / "m", false); });
  expect_words(error_of(ErrorKind::kFile, [&] { merge_manifests({a}, folder_ / "no/m", false); }), "cannot be written");
  expect_words(error_of(ErrorKind::kFile, [&] { merge_manifests({a}, folder_, true); }), "it is no file");
}

// ---- size and damage ----------------------------------------------------------------------------------------------

// EASEL_MANIFEST_LINES: another number of records.
TEST_F(Manifest, AnEntryAPictureInMemory) {
  const char* asked = std::getenv("EASEL_MANIFEST_LINES");
  const int64_t count = asked != nullptr ? std::atoll(asked) : 50'000;
  ManifestRecord record = done(0);
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  {
    ManifestWriter writer = ManifestWriter::create(folder_ / "m.jsonl", header_);
    for (int64_t i = 0; i < count; ++i) {
      record.index = record.job = count - 1 - i;
      writer.add(record);
    }
  }
  const double written = seconds();
  const int64_t before = resident_kib();
  const ManifestReader reader(folder_ / "m.jsonl");
  const double read = seconds();
  const int64_t grown = resident_kib() - before;
  EXPECT_EQ(reader.size(), count);
  EXPECT_LT(grown, 10 * 1024 + count * 120 / 1024);
  EXPECT_EQ(merge_manifests({folder_ / "m.jsonl"}, folder_ / "merged.jsonl", false).pictures, count);
  std::printf("%lld records: written in %.2f s, read in %.2f s (memory grew by %lld KiB), merged in %.2f s\n",
              static_cast<long long>(count), written, read - written, static_cast<long long>(grown), seconds() - read);
}

TEST_F(Manifest, DamagedManifestsAreNoTrouble) {
  ManifestRecord with_id = done(2);
  with_id.id = 5;
  make("m.jsonl", header_, {done(0), failed(1), with_id});
  const std::string whole = read("m.jsonl");
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = whole;
    for (int n = 1 + static_cast<int>(random() % 3); n > 0; --n) {
      const std::size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + random() % 8);
          break;
        case 2:
          bytes.insert(at, 1, "\"\\{}[]:,\n\r\0- 9"[random() % 14]);
          break;
        default:
          bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 60));
      }
    }
    write("x.jsonl", bytes);
    try {
      const ManifestReader reader(folder_ / "x.jsonl");
      for (const int64_t index : reader.indices()) {
        Faults faults;
        picture_state(reader, index, done(index % 3).request, faults);
      }
    } catch (const Error& error) {
      ++refused;
      ASSERT_EQ(error.kind(), ErrorKind::kFile);
      ASSERT_TRUE(std::string(error.what()).starts_with((folder_ / "x.jsonl").string())) << error.what();
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace easel
