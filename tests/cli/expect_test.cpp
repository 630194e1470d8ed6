// --expect, --tolerance and --junit: a picture that must come out, in a CI.
#include "cli/program.h"
#include "easel/image.h"

namespace easel::testing {
namespace {

class Expectation : public CliTest {
 protected:
  Expectation() { EXPECT_EQ(draw({"a dog", "-s", "1", "-o", "reference.png"}).code, 0); }

  // The reference with its first value changed by `change`.
  void spoil(const std::string& name, int change) const {
    Image image = read_png(folder_ / "reference.png");
    image.pixels[0] = static_cast<uint8_t>(image.pixels[0] > 127 ? image.pixels[0] - change : image.pixels[0] + change);
    write_file_atomically(folder_ / name, encode_png(image, {}), true);
  }
};

TEST_F(Expectation, IsMetOrEndsWithSix) {
  const Result met = draw({"a dog", "-s", "1", "-o", "a.png", "--expect", "reference.png", "--tolerance", "0"});
  EXPECT_EQ(met.code, 0) << met.err;
  EXPECT_EQ(met.out, "a.png\n");
  const Result other = draw({"a cat", "-s", "2", "-o", "b.png", "--expect", "reference.png"});
  EXPECT_EQ(other.code, 6);
  EXPECT_EQ(other.out, "b.png\n") << "what was drawn can be looked at";
  expect_words(other.err, {"b.png is not reference.png"});
}

TEST_F(Expectation, ToleranceIsInValues) {
  spoil("near.png", 3);
  EXPECT_EQ(draw({"a dog", "-s", "1", "--skip-save", "--expect", "near.png", "--tolerance", "3"}).code, 0);
  EXPECT_EQ(draw({"a dog", "-s", "1", "--skip-save", "--expect", "near.png", "--tolerance", "2"}).code, 6);
  EXPECT_EQ(draw({"a dog", "-s", "1", "--skip-save", "--expect", "near.png"}).code, 6);
}

TEST_F(Expectation, IsReportedToAContinuousIntegration) {
  const Result r =
      draw({"a dog", "-s", "1", "-b", "2", "-o", "{seed}.png", "--expect", "reference.png", "--junit", "report.xml"});
  EXPECT_EQ(r.code, 6) << r.err;
  const std::string report = bytes("report.xml");
  expect_words(report, {"<testsuite", "tests=\"2\"", "failures=\"1\"", "name=\"1.png\"", "name=\"2.png\"", "<failure"});
}

TEST_F(Expectation, FaultsComeBeforeThePicture) {
  const Result tolerance = draw({"a dog", "--tolerance", "3"});
  EXPECT_EQ(tolerance.code, 2);
  expect_words(tolerance.err, {"--tolerance has no effect without --expect"});
  EXPECT_EQ(draw({"a dog", "--expect", "reference.png", "--tolerance", "256"}).code, 2);
  const Result missing = draw({"a dog", "--expect", "nowhere.png"});
  EXPECT_EQ(missing.code, 3);
  expect_words(missing.err, {"nowhere.png"});
  EXPECT_EQ(draw({"a dog", "--junit", "nowhere/report.xml"}).code, 3);
  EXPECT_EQ(files(), Words{"reference.png"});
}

}  // namespace
}  // namespace easel::testing
