// The JUnit report: what it holds, and that any text leaves it well-formed.
#include "easel/junit.h"

#include "batch/batch_support.h"

namespace easel::testing {
namespace {

class Junit : public FolderTest {
 protected:
  std::string written() const { return read("r.xml"); }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder_)) all.push_back(entry.path().filename());
    return all;
  }
};

TEST_F(Junit, ACaseAPicture) {
  JunitReport report(folder_ / "r.xml", "easel verify");
  report.add({.name = "a.png", .seconds = 1.25});
  report.add({.name = "b.png", .seconds = 0.5, .failure = "different\nby far"});
  report.add({.name = "c.png", .error = "NaN"});
  report.write();
  EXPECT_EQ(written(), R"(<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="3" failures="1" errors="1" time="1.750">
  <testsuite name="easel verify" tests="3" failures="1" errors="1" time="1.750">
    <testcase classname="easel verify" name="a.png" time="1.250"/>
    <testcase classname="easel verify" name="b.png" time="0.500">
      <failure message="different">different&#10;by far</failure>
    </testcase>
    <testcase classname="easel verify" name="c.png" time="0.000">
      <error message="NaN">NaN</error>
    </testcase>
  </testsuite>
</testsuites>
)");
  EXPECT_EQ(names(), std::vector<std::string>{"r.xml"}) << "no temporary is left";
}

TEST_F(Junit, AnyTextIsWellFormed) {
  JunitReport report(folder_ / "r.xml", "s");
  report.add({.name = "<a & \"b\">\t'\xEB\xB3\x84'\x1b[31m\x01\x80\xEF\xBF\xBE"});
  EXPECT_NE(report.xml().find("name=\"&lt;a &amp; &quot;b&quot;&gt;&#9;'\xEB\xB3\x84'[31m\xEF\xBF\xBD\""),
            std::string::npos)
      << report.xml();
}

TEST_F(Junit, AnOlderReportIsGoneBeforeTheNewOneIsThere) {
  write("r.xml", "of yesterday");
  JunitReport report(folder_ / "r.xml", "s");
  EXPECT_FALSE(fs::exists(folder_ / "r.xml"));
  report.write();
  EXPECT_TRUE(written().starts_with("<?xml"));
  report.add({.name = "more"});
  report.write();
  EXPECT_NE(written().find("more"), std::string::npos);
}

TEST_F(Junit, WhereNoFileCanBeWritten) {
  for (const fs::path& file : {folder_ / "missing/r.xml", folder_, fs::path("/dev/null")})
    expect_words(error_of(ErrorKind::kFile, [&] { JunitReport(file, "s"); }), "--junit: ");
  EXPECT_TRUE(fs::exists(folder_));
}

}  // namespace
}  // namespace easel::testing
