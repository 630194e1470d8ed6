// Whole or not at all: full disks, missing folders, taken names, several writers at once.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "easel/image.h"
#include "image/fault.h"
#include "image/publish.h"
#include "image/scratch.h"

namespace easel {
namespace {

namespace fs = std::filesystem;
using testing::Fault;
using testing::fault_of;
using testing::is_blocked;
using testing::is_pending;
using testing::read_bytes;
using testing::Scratch;
using testing::write_bytes;

using Names = std::vector<std::string>;

// Allows files of `bytes` at most while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST(WriteFileAtomically, WritesAllAndLeavesNothingElse) {
  const Scratch folder;
  std::string bytes(3'000'001, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 >> 3);
  write_file_atomically(folder / "a.png", bytes, false);
  EXPECT_EQ(read_bytes(folder / "a.png"), bytes);
  write_file_atomically(folder / "empty", "", false);
  EXPECT_EQ(folder.names(), (Names{"a.png", "empty"}));
}

TEST(WriteFileAtomically, AnExistingFileIsReplacedOnlyOnRequest) {
  const Scratch folder;
  write_bytes(folder / "a.png", "old");
  const Fault fault = fault_of([&] { write_file_atomically(folder / "a.png", "new", false); });
  EXPECT_EQ(fault.what, (folder / "a.png").string() + ": cannot be written: the file exists");
  EXPECT_EQ(fault.hint, "--overwrite replaces it");
  EXPECT_EQ(read_bytes(folder / "a.png"), "old");
  {
    const FileSizeLimit no_room(1);  // seen before anything is written
    EXPECT_EQ(fault_of([&] { write_file_atomically(folder / "a.png", "new", false); }).what, fault.what);
  }
  write_file_atomically(folder / "a.png", "new", true);
  EXPECT_EQ(read_bytes(folder / "a.png"), "new");
  EXPECT_EQ(folder.names(), Names{"a.png"});
}

TEST(WriteFileAtomically, AReaderKeepsTheOldFileWhole) {
  const Scratch folder;
  std::ifstream reader(write_bytes(folder / "a.png", "old bytes"));
  write_file_atomically(folder / "a.png", "new", true);
  std::string seen;
  std::getline(reader, seen);
  EXPECT_EQ(seen, "old bytes");
}

TEST(WriteFileAtomically, TheModeIsTheUmasks) {
  const Scratch folder;
  const mode_t before = umask(027);
  write_file_atomically(folder / "a.png", "x", false);
  umask(before);
  EXPECT_EQ(static_cast<int>(fs::status(folder / "a.png").permissions()), 0640);
}

TEST(WriteFileAtomically, PathsRelativeAndLong) {
  const Scratch folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  const std::string longest(255, 'n');
  write_file_atomically("bare", "x", false);
  write_file_atomically(longest, "x", false);
  const Fault fault = fault_of([] { write_file_atomically(std::string(256, 'n'), "x", false); });
  fs::current_path(before);
  EXPECT_EQ(folder.names(), (Names{"bare", longest}));
  EXPECT_TRUE(fault.what.ends_with(": cannot be written: File name too long")) << fault.what;
}

TEST(WriteFileAtomically, WhereNoFileCanBeMade) {
  const Scratch folder;
  write_bytes(folder / "file", "x");
  fs::create_directory(folder / "sub");
  const std::string root = folder.path().string();
  const auto what = [](const fs::path& target) {
    return fault_of([&] { write_file_atomically(target, "x", true); }).what;
  };
  EXPECT_EQ(what(folder / "none/a.png"), root + "/none/a.png: cannot be written: there is no folder " + root + "/none");
  EXPECT_EQ(fault_of([&] { write_file_atomically(folder / "none/a.png", "x", false); }).hint,
            "make it first: mkdir -p " + root + "/none");
  EXPECT_EQ(what(folder / "file/a.png"), root + "/file/a.png: cannot be written: Not a directory");
  EXPECT_EQ(what(folder / "sub"), root + "/sub: cannot be written: it is a folder");
  EXPECT_EQ(what(folder / "sub/"), root + "/sub/: cannot be written: it is not the name of a file");
  EXPECT_EQ(what(folder / "sub/.."), root + "/sub/..: cannot be written: it is not the name of a file");
  EXPECT_EQ(what(""), ": cannot be written: it is not the name of a file");
  // Tests may run as root, who may write anywhere but here.
  const std::string proc = what("/proc/a.png");
  EXPECT_TRUE(proc.starts_with("/proc/a.png: cannot be written: no file can be made in folder /proc: ")) << proc;
  EXPECT_EQ(folder.names(), (Names{"file", "sub"}));
}

TEST(WriteFileAtomically, DevicesAndPipesAreNotReplaced) {
  const Scratch folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  fs::create_symlink("/dev/null", folder / "null");
  for (const char* name : {"pipe", "null"}) {
    const Fault fault = fault_of([&] { write_file_atomically(folder / name, "x", true); });
    EXPECT_EQ(fault.what, (folder / name).string() + ": cannot be written: it is a device or a pipe");
  }
  EXPECT_TRUE(fs::is_fifo(folder / "pipe"));
  EXPECT_TRUE(fs::is_symlink(folder / "null"));
}

TEST(WriteFileAtomically, ALinkIsReplacedNotFollowed) {
  const Scratch folder;
  write_bytes(folder / "file", "kept");
  for (const char* to : {"file", "nowhere"}) {
    fs::create_symlink(to, folder / "link");
    EXPECT_TRUE(
        fault_of([&] { write_file_atomically(folder / "link", "x", false); }).what.ends_with("the file exists"));
    write_file_atomically(folder / "link", "new", true);
    EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(folder / "link")));
    EXPECT_EQ(read_bytes(folder / "link"), "new");
    fs::remove(folder / "link");
  }
  EXPECT_EQ(read_bytes(folder / "file"), "kept");
  EXPECT_EQ(folder.names(), Names{"file"});
}

// The default action of SIGXFSZ is to end the program: that this test goes on is part of it.
TEST(WriteFileAtomically, TheFileSizeLimitIsAnErrorAndLeavesNothing) {
  const Scratch folder;
  write_bytes(folder / "old.png", "old");
  const std::string bytes(100'000, 'x');
  for (const char* name : {"new.png", "old.png"}) {
    const FileSizeLimit limit(4096);
    const Fault fault = fault_of([&] { write_file_atomically(folder / name, bytes, true); });
    EXPECT_EQ(fault.what, (folder / name).string() + ": cannot be written: File too large");
  }
  EXPECT_EQ(folder.names(), Names{"old.png"});
  EXPECT_EQ(read_bytes(folder / "old.png"), "old");
  EXPECT_FALSE(is_pending(SIGXFSZ));
  EXPECT_FALSE(is_blocked(SIGXFSZ));
  EXPECT_FALSE(is_blocked(SIGPIPE));
  write_file_atomically(folder / "new.png", bytes, false);
  EXPECT_EQ(read_bytes(folder / "new.png"), bytes);
}

TEST(WriteFileAtomically, OfManyWritersOneWins) {
  const Scratch folder;
  for (int round = 0; round < 20; ++round) {
    const fs::path target = folder / std::to_string(round);
    std::atomic<int> ready = 0, won = 0;
    std::string winner;
    std::vector<std::thread> writers;
    for (int i = 0; i < 8; ++i) {
      writers.emplace_back([&, i] {
        const std::string bytes(20'000 + i, static_cast<char>('a' + i));
        for (++ready; ready < 8;) std::this_thread::yield();
        const Fault fault = fault_of([&] { write_file_atomically(target, bytes, false); });
        if (fault.what == "no error") {
          ++won;
          winner = bytes;
        } else {
          EXPECT_TRUE(fault.what.ends_with("the file exists")) << fault.what;
        }
      });
    }
    for (std::thread& writer : writers) writer.join();
    EXPECT_EQ(won, 1);
    EXPECT_EQ(read_bytes(target), winner);
    EXPECT_EQ(folder.names().size(), round + 1u);
  }
}

TEST(WriteFileAtomically, NothingTornIsEverSeen) {
  const Scratch folder;
  const fs::path target = folder / "a.png";
  std::atomic<int> running = 3;
  write_file_atomically(target, std::string(50'000, 'z'), false);
  std::vector<std::thread> writers;
  for (int i = 0; i < 3; ++i) {
    writers.emplace_back([&, i] {
      for (int k = 0; k < 20; ++k) write_file_atomically(target, std::string(50'000, static_cast<char>('a' + i)), true);
      --running;
    });
  }
  int looks = 0;
  for (; running > 0 || looks == 0; ++looks) {
    const std::string seen = read_bytes(target);
    ASSERT_EQ(seen, std::string(50'000, seen.empty() ? '?' : seen[0]));
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(folder.names(), Names{"a.png"});
}

// ---- the ways a finished file gets its name ------------------------------------------------------------------------

using Way = int (*)(const fs::path&, const fs::path&);

class PublishTest : public ::testing::TestWithParam<Way> {};

TEST_P(PublishTest, NewNamesOnly) {
  const Scratch folder;
  write_bytes(folder / "tmp", "new");
  ASSERT_EQ(GetParam()(folder / "tmp", folder / "a.png"), 0);
  EXPECT_EQ(folder.names(), Names{"a.png"});
  EXPECT_EQ(read_bytes(folder / "a.png"), "new");

  write_bytes(folder / "tmp", "newer");
  fs::create_symlink("nowhere", folder / "dangling");
  for (const char* taken : {"a.png", "dangling"})
    EXPECT_EQ(GetParam()(folder / "tmp", folder / taken), EEXIST) << taken;
  EXPECT_EQ(read_bytes(folder / "a.png"), "new");
  EXPECT_EQ(folder.names(), (Names{"a.png", "dangling", "tmp"}));
  EXPECT_EQ(GetParam()(folder / "tmp", folder / "none/a.png"), ENOENT);
}

INSTANTIATE_TEST_SUITE_P(Ways, PublishTest,
                         ::testing::Values(publish_new, publish_by_link, publish_by_exclusive_rename,
                                           publish_by_checked_rename));

}  // namespace
}  // namespace easel
