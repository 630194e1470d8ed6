// The elements that pytest, Gradle and ctest write and that Jenkins, GitLab and GitHub's reporters read; there is no
// standard.
#include "easel/junit.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "easel/image.h"
#include "easel/text.h"

namespace easel {

namespace fs = std::filesystem;

namespace {

// Every byte that is no part of a UTF-8 character as U+FFFD.
std::string valid_utf8(std::string_view text) {
  std::string valid;
  while (const auto at = invalid_utf8_at(text)) {
    valid.append(text.substr(0, *at)).append("\xEF\xBF\xBD");
    text.remove_prefix(*at + 1);
  }
  return valid.append(text);
}

std::string entity_of(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\t':  // as they are, attributes would lose these three
    case '\n':
    case '\r':
      return "&#" + std::to_string(c) + ";";
    default:
      return static_cast<unsigned char>(c) < 0x20 ? "" : std::string(1, c);
  }
}

// XML 1.0's Char leaves out the control characters, U+FFFE and U+FFFF.
std::string escaped(std::string_view given) {
  const std::string text = valid_utf8(given);
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view three = std::string_view(text).substr(at, 3);
    if (three == "\xEF\xBF\xBE" || three == "\xEF\xBF\xBF") {
      at += 3;
    } else {
      out += entity_of(text[at++]);
    }
  }
  return out;
}

std::string attribute(const char* name, std::string_view value) {
  return std::string(" ") + name + "=\"" + escaped(value) + "\"";
}

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", seconds);
  return text;
}

std::string outcome(const char* element, const std::string& message) {
  if (message.empty()) return "";
  return std::string("      <") + element + attribute("message", message.substr(0, message.find('\n'))) + ">" +
         escaped(message) + "</" + element + ">\n";
}

std::string case_text(const JunitCase& picture, const std::string& suite) {
  const std::string begin = "    <testcase" + attribute("classname", suite) + attribute("name", picture.name) +
                            attribute("time", seconds_text(picture.seconds));
  const std::string inner = outcome("failure", picture.failure) + outcome("error", picture.error);
  return inner.empty() ? begin + "/>\n" : begin + ">\n" + inner + "    </testcase>\n";
}

}  // namespace

JunitReport::JunitReport(fs::path file, std::string suite) : file_(std::move(file)), suite_(std::move(suite)) {
  const fs::path folder = file_.has_parent_path() ? file_.parent_path() : fs::path(".");
  std::error_code error;
  const fs::file_status there = fs::symlink_status(file_, error);
  if (fs::exists(there) && !fs::is_regular_file(there) && !fs::is_symlink(there))
    throw Error(ErrorKind::kFile, "--junit: " + file_.string() + " is not a file");
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    throw Error(ErrorKind::kFile,
                "--junit: nothing can be written to " + folder.string() + ": " + std::strerror(errno));
  fs::remove(file_, error);
  if (error) throw Error(ErrorKind::kFile, "--junit: " + file_.string() + ": " + error.message());
}

std::string JunitReport::xml() const {
  double seconds = 0;
  std::string cases;
  for (const JunitCase& picture : cases_) {
    seconds += picture.seconds;
    cases += case_text(picture, suite_);
  }
  const auto count = [&](std::string JunitCase::*message) {
    return std::to_string(
        std::count_if(cases_.begin(), cases_.end(), [&](const JunitCase& c) { return !(c.*message).empty(); }));
  };
  const std::string totals = attribute("tests", std::to_string(cases_.size())) +
                             attribute("failures", count(&JunitCase::failure)) +
                             attribute("errors", count(&JunitCase::error)) + attribute("time", seconds_text(seconds));
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" + totals + ">\n  <testsuite" +
         attribute("name", suite_) + totals + ">\n" + cases + "  </testsuite>\n</testsuites>\n";
}

void JunitReport::write() const { write_file_atomically(file_, xml(), /*overwrite=*/true); }

}  // namespace easel
