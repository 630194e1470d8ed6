#include "easel/core.h"

#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include "easel/tensor.h"

namespace easel {
namespace {

using namespace std::string_literals;
using Words = std::vector<std::string>;

// ---- errors ---------------------------------------------------------------------------------------------------------

TEST(Error, CarriesKindFaultAndHint) {
  const Error error(ErrorKind::kFile, "a.png: cannot be read", "look there");
  EXPECT_EQ(error.kind(), ErrorKind::kFile);
  EXPECT_STREQ(error.what(), "a.png: cannot be read");
  EXPECT_EQ(error.faults(), Words{"a.png: cannot be read"});
  EXPECT_EQ(error.hint(), "look there");
  EXPECT_EQ(Error(ErrorKind::kUsage, "x").hint(), "");
}

// command-line.md, "Exit codes"
TEST(Error, TheKindIsTheExitCode) {
  const std::vector<std::pair<ErrorKind, int>> codes = {{ErrorKind::kInternal, 1}, {ErrorKind::kUsage, 2},
                                                        {ErrorKind::kFile, 3},     {ErrorKind::kMemory, 4},
                                                        {ErrorKind::kPicture, 5},  {ErrorKind::kExpectation, 6}};
  for (const auto& [kind, code] : codes) EXPECT_EQ(Error(kind, "x").exit_code(), code);
}

TEST(Error, SeveralFaultsAreOneLineEach) {
  const Error error(ErrorKind::kUsage, Words{"--steps 0", "--width 500"}, "see --help");
  EXPECT_STREQ(error.what(), "--steps 0\n--width 500");
  EXPECT_EQ(error.faults(), (Words{"--steps 0", "--width 500"}));
}

TEST(Faults, RaisesAllTogetherAndOnlyIfThereAreAny) {
  Faults faults;
  EXPECT_TRUE(faults.empty());
  EXPECT_NO_THROW(faults.raise_if_any(ErrorKind::kUsage));
  faults.add("first");
  faults.add("second");
  EXPECT_FALSE(faults.empty());
  try {
    faults.raise_if_any(ErrorKind::kUsage, "see --help");
    FAIL() << "two faults raised nothing";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_EQ(error.faults(), (Words{"first", "second"}));
    EXPECT_EQ(error.hint(), "see --help");
  }
}

// ---- interruption ---------------------------------------------------------------------------------------------------

TEST(Interrupt, ThrowsAtTheNextCheckWithTheShellsExitCode) {
  EXPECT_NO_THROW(check_interrupted());
  for (const auto& [signal, code] : std::vector<std::pair<int, int>>{{SIGINT, 130}, {SIGTERM, 143}}) {
    request_interrupt(signal);
    for (int i = 0; i < 2; ++i) {  // it stays until the program ends
      try {
        check_interrupted();
        ADD_FAILURE() << "signal " << signal << " went by";
      } catch (const Interrupted& interrupted) {
        EXPECT_EQ(interrupted.exit_code(), code);
        EXPECT_STREQ(interrupted.what(), "interrupted");
      }
    }
  }
  request_interrupt(0);
  EXPECT_NO_THROW(check_interrupted());
}

TEST(Interrupt, WorksFromASignalHandler) {
  const auto before = std::signal(SIGTERM, [](int signal) { request_interrupt(signal); });
  std::raise(SIGTERM);
  std::signal(SIGTERM, before);
  EXPECT_THROW(check_interrupted(), Interrupted);
  request_interrupt(0);
}

// ---- messages -------------------------------------------------------------------------------------------------------

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override {
    log::set_level(log::Level::kNormal);
    log::set_status_line("");
  }
  template <typename Action>
  static std::string stderr_of(const Action& action) {
    ::testing::internal::CaptureStderr();
    action();
    return ::testing::internal::GetCapturedStderr();
  }
};

TEST_F(LogTest, EachLevelPrintsWhatItPromises) {
  const auto all = [] {
    log::error("e");
    log::warn("w");
    log::note("n");
    log::verbose("v");
  };
  EXPECT_EQ(log::level(), log::Level::kNormal);
  EXPECT_EQ(stderr_of(all), "easel: error: e\neasel: warning: w\neasel: n\n");
  log::set_level(log::Level::kQuiet);
  EXPECT_EQ(stderr_of(all), "easel: error: e\n");
  log::set_level(log::Level::kVerbose);
  EXPECT_EQ(stderr_of(all), "easel: error: e\neasel: warning: w\neasel: n\neasel: v\n");
}

TEST_F(LogTest, EveryLineOfAMessageHasThePrefix) {
  EXPECT_EQ(stderr_of([] { log::error("one\n\nthree"); }), "easel: error: one\neasel: error: \neasel: error: three\n");
  EXPECT_EQ(stderr_of([] { log::note("one\ntwo\n\n"); }), "easel: one\neasel: two\n");
  EXPECT_EQ(stderr_of([] { log::note(""); }), "easel: \n");
}

TEST_F(LogTest, ControlCharactersAreSpelledOut) {
  const std::string text = "\x1b[2Jname\r\0\x7f\ttab 고양이 é"s;
  EXPECT_EQ(stderr_of([&] { log::warn(text); }), "easel: warning: \\x1b[2Jname\\x0d\\x00\\x7f\ttab 고양이 é\n");
}

TEST_F(LogTest, TheStatusLineIsClearedForAMessageAndDrawnAgain) {
  const std::string clear = "\r\x1b[K";
  EXPECT_EQ(stderr_of([] { log::set_status_line("step 1"); }), clear + "step 1");
  EXPECT_EQ(stderr_of([] { log::note("hello"); }), clear + "easel: hello\nstep 1");
  EXPECT_EQ(stderr_of([] { log::verbose("not shown"); }), "");
  EXPECT_EQ(stderr_of([] { log::set_status_line("step 2"); }), clear + "step 2");
  EXPECT_EQ(stderr_of([] { log::set_status_line(""); }), clear);
  EXPECT_EQ(stderr_of([] { log::note("hello"); }), "easel: hello\n");
  EXPECT_EQ(stderr_of([] { log::set_status_line(""); }), "");
}

TEST_F(LogTest, LinesOfThreadsDoNotMix) {
  const std::string text(500, 'x');
  const std::string all = stderr_of([&] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int k = 0; k < 50; ++k) log::note(text);
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  std::string want;
  for (int i = 0; i < 200; ++i) want += "easel: " + text + "\n";
  EXPECT_EQ(all, want);
}

// ---- names ----------------------------------------------------------------------------------------------------------

TEST(NearestNames, ByEditDistance) {
  const Words known = {"ddpm", "ddim", "pndm", "euler", "euler_a", "dpm++2m"};
  EXPECT_EQ(nearest_names("dddim", known, 2), (Words{"ddim", "ddpm"}));
  EXPECT_EQ(nearest_names("eulre", known, 1), Words{"euler"});
  EXPECT_EQ(nearest_names("pmdm", known, 1), Words{"pndm"});
  EXPECT_EQ(nearest_names("DDIM", known, 1), Words{"ddim"});
}

TEST(NearestNames, PrefixesFirstTheNearestOfThemBefore) {
  const Words known = {"steps", "eta", "euler", "euler_a", "dpm++2m", "dpm2"};
  EXPECT_EQ(nearest_names("eul", known, 2), (Words{"euler", "euler_a"}));
  EXPECT_EQ(nearest_names("Euler_A", known, 2), (Words{"euler_a", "euler"}));
  EXPECT_EQ(nearest_names("euler_ancestral", known, 2), (Words{"euler_a", "euler"}));
  EXPECT_EQ(nearest_names("dpm", known, 2), (Words{"dpm2", "dpm++2m"}));
}

TEST(NearestNames, EqualDistancesKeepTheTablesOrder) {
  EXPECT_EQ(nearest_names("x", {"b", "a", "c"}, 3), (Words{"b", "a", "c"}));
}

TEST(NearestNames, FewerKnownThanAskedFor) {
  EXPECT_EQ(nearest_names("a", {"b"}), Words{"b"});
  EXPECT_TRUE(nearest_names("a", {}).empty());
  EXPECT_TRUE(nearest_names("a", {"b"}, 0).empty());
  EXPECT_EQ(nearest_names("", {"long", "b", ""}, 2), (Words{"", "b"}));
  EXPECT_EQ(nearest_names("steps", {"", "step"}, 1), Words{"step"});  // an empty name is nobody's prefix
  EXPECT_EQ(nearest_names("a", {"e", "f", "g", "h"}).size(), 3u);
}

TEST(NearestNames, APastedPromptCostsLittle) {
  const std::string prompt(10'000'000, 'x');
  EXPECT_EQ(nearest_names(prompt, Words(200, std::string("dpm++2m")), 1), Words{"dpm++2m"});
}

// ---- shapes ---------------------------------------------------------------------------------------------------------

TEST(ToString, Shapes) {
  EXPECT_EQ(to_string(at::zeros({2, 4, 1, 0}).sizes()), "[2, 4, 1, 0]");
  EXPECT_EQ(to_string(at::zeros({}).sizes()), "[]");
}

}  // namespace
}  // namespace easel
