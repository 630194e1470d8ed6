// easel augment: variations of labelled pictures, and the jobs behind them.
#include <fstream>
#include <set>

#include "cli/program.h"
#include "easel/image.h"
#include "easel/tensor.h"

namespace easel::testing {
namespace {

namespace fs = std::filesystem;

class Augment : public CliTest {
 protected:
  Augment() {
    const char* names[] = {"cat/a.png", "cat/b.png", "dog/a.png"};
    for (const char* name : names) add(name);
  }

  void add(const std::string& name, int width = 64, int height = 64) {
    const fs::path file = folder_ / "photos" / name;
    fs::create_directories(file.parent_path());
    Image image{width, height, std::vector<uint8_t>(std::size_t{3} * width * height, 90)};
    write_file_atomically(file, encode_png(image, {}), true);
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  std::set<std::string> pictures_in(const std::string& below) const {
    std::set<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / below)) {
      if (entry.path().extension() == ".png") names.insert(fs::relative(entry.path(), folder_ / below).string());
    }
    return names;
  }
};

TEST_F(Augment, KeepsLabelsInTheLayoutAndVariesEveryPicture) {
  const Result r = run({"augment", "photos", "--outdir", "more", "-n", "2", "-s", "5", "--steps", "4"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(pictures_in("more"), (std::set<std::string>{"cat/a-0.png", "cat/a-1.png", "cat/b-0.png", "cat/b-1.png",
                                                        "dog/a-0.png", "dog/a-1.png"}));
  EXPECT_EQ(lines_of(r.out).size(), 6u);
  std::set<std::vector<uint8_t>> distinct;
  for (const std::string& name : pictures_in("more")) {
    const Image image = read_png(folder_ / "more" / name);
    EXPECT_EQ(std::pair(image.width, image.height), std::pair(64, 64));
    distinct.insert(image.pixels);
  }
  EXPECT_EQ(distinct.size(), 6u);

  const Result again = run({"augment", "photos", "--outdir", "again", "-n", "2", "-s", "5", "--steps", "4"});
  ASSERT_EQ(again.code, 0) << again.err;
  for (const std::string& name : pictures_in("more"))
    EXPECT_EQ(read_png(folder_ / "again" / name).pixels, read_png(folder_ / "more" / name).pixels) << name;
}

TEST_F(Augment, JobsSayLabelSeedAndStrength) {
  const Result r = run({"augment", "photos", "--outdir", "more", "-n", "3", "-s", "10", "--strength", "0.2..0.4",
                        "--template", "a {label}", "--template", "two {label}s, a {label}", "--dry-run"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_FALSE(fs::exists(folder_ / "more"));
  const auto lines = lines_of(r.out);
  ASSERT_EQ(lines.size(), 9u);
  std::set<double> strengths;
  for (std::size_t k = 0; k < lines.size(); ++k) {
    const json job = json::parse(lines[k]);
    EXPECT_EQ(job.at("seed"), 10 + k);
    const double strength = job.at("strength");
    EXPECT_TRUE(strength >= 0.2 && strength <= 0.4) << strength;
    strengths.insert(strength);
  }
  EXPECT_GT(strengths.size(), 7u);
  EXPECT_EQ(json::parse(lines[0]).at("prompt"), "a cat");
  EXPECT_EQ(json::parse(lines[1]).at("prompt"), "two cats, a cat");
  EXPECT_EQ(json::parse(lines[8]).at("output"), "dog/a-2.png");
  EXPECT_EQ(json::parse(lines[8]).at("id"), "dog/a-2");
}

TEST_F(Augment, ListsNameLabelsToo) {
  write("labels.csv", "path,label\ncat/a.png,\"tabby, grey\"\ndog/a.png,hound\n");
  const Result r =
      run({"augment", "photos", "--labels", "labels.csv", "--outdir", "m", "-n", "1", "-s", "1", "--dry-run"});
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(json::parse(lines_of(r.out)[0]).at("prompt"), "a photo of a tabby, grey");
  write("labels.jsonl", "{\"path\": \"cat/b.png\", \"label\": \"고양이\"}\n");
  const Result jsonl =
      run({"augment", "photos", "--labels", "labels.jsonl", "--outdir", "m", "-n", "1", "-s", "1", "--dry-run"});
  EXPECT_EQ(json::parse(lines_of(jsonl.out).at(0)).at("output"), "고양이/b-0.png");
  write("bad.csv", "path,label\nx.png\n\"a,b\n");
  const Result bad = run({"augment", "photos", "--labels", "bad.csv", "--outdir", "m"});
  EXPECT_EQ(bad.code, 3);
  for (const char* word : {"bad.csv:2: 1 cells: expected 2", "bad.csv:3: a double quote is not closed"})
    EXPECT_NE(bad.err.find(word), std::string::npos) << bad.err;
}

TEST_F(Augment, BadPicturesAreNamedAndLeftOut) {
  write("photos/cat/torn.png", "\x89PNG\r\n\x1a\n");
  const Result r = run({"augment", "photos", "--outdir", "more", "-n", "1", "-s", "5", "--steps", "2"});
  EXPECT_EQ(r.code, 5) << r.err;
  EXPECT_NE(r.err.find("torn.png"), std::string::npos) << r.err;
  EXPECT_EQ(pictures_in("more").size(), 3u);
}

TEST_F(Augment, GoesOnWhereItStopped) {
  const Words command = {"augment", "photos", "--outdir", "more", "-n", "1", "-s", "5", "--steps", "2", "--resume"};
  ASSERT_EQ(run(command).code, 0);
  const auto made = fs::last_write_time(folder_ / "more/cat/a-0.png");
  fs::remove(folder_ / "more/dog/a-0.png");
  const Result r = run(command);
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(lines_of(r.out), Words{"more/dog/a-0.png"});
  EXPECT_EQ(fs::last_write_time(folder_ / "more/cat/a-0.png"), made);
}

TEST_F(Augment, FaultsAreNamed) {
  const auto fails = [&](const Words& more, int code, const std::string& word) {
    Words command = {"augment"};
    command.insert(command.end(), more.begin(), more.end());
    const Result r = run(command);
    EXPECT_EQ(r.code, code) << word;
    EXPECT_NE(r.err.find(word), std::string::npos) << r.err;
    EXPECT_EQ(r.out, "");
  };
  fails({}, 2, "no folder");
  fails({"photos"}, 2, "--outdir is missing");
  fails({"photos", "--outdir", "m", "--strength", "0.6..0.3"}, 2, "--strength '0.6..0.3'");
  fails({"photos", "--outdir", "m", "--strength", "1.5"}, 2, "--strength '1.5'");
  fails({"photos", "--outdir", "m", "-n", "0"}, 2, "--variations '0'");
  fails({"photos", "--outdir", "m", "--resume"}, 2, "-s is missing");
  fails({"photos", "--outdir", "m", "--colour", "red"}, 2, "unknown option --colour");
  fails({"nowhere", "--outdir", "m"}, 3, "nowhere is not a folder");
  fs::create_directories(folder_ / "empty/cat");
  fails({"empty", "--outdir", "m"}, 3, "no picture with a label");
}

}  // namespace
}  // namespace easel::testing
