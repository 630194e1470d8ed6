// Job files and streams by the bundled model: what is drawn, in which order, what is said of it.
#include <sys/stat.h>

#include <fstream>

#include "cli/batch_support.h"

namespace easel::testing {
namespace {

class Batch : public BatchRunTest {
 protected:
  // Exit code 2, nothing drawn, nothing on standard output.
  void refuses(const Words& more, const Words& words) const {
    const Result r = batch(with({"--outdir", "refused"}, more));
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_EQ(r.out, "");
    EXPECT_EQ(pictures("refused").size(), 0u);
    expect_words(r.err, words);
  }
};

// ---- files --------------------------------------------------------------------------------------------------------

TEST_F(Batch, ThreeKindsOfJobFiles) {
  make("jobs.txt", "# animals\na red fox --cfg 3\n\na snow owl --d 7 --n \"blurry, dark\"\n\"a cat, asleep\" -–x\n");
  make("jobs.jsonl",
       "{\"prompt\": \"a red fox\", \"cfg_scale\": 3}\n"
       "{\"prompt\": \"a snow owl\", \"seed\": \"7\", \"negative_prompt\": \"blurry, dark\"}\n"
       "{\"prompt\": \"\\\"a cat, asleep\\\" -–x\"}\n");
  make("jobs.csv",
       "prompt,cfg,seed,negative_prompt\na red fox,3,,\na snow owl,,7,\"blurry, dark\"\n"
       "\"\"\"a cat, asleep\"\" -–x\",,,\n");
  const Result text = batch({"--outdir", "txt"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_EQ(text.out, "txt/00000-100.png\ntxt/00001-7.png\ntxt/00002-102.png\n");
  EXPECT_EQ(batch({"--outdir", "jsonl"}, "jobs.jsonl").code, 0);
  EXPECT_EQ(batch({"--outdir", "csv"}, "jobs.csv").code, 0);
  expect_equal(pictures("jsonl"), pictures("txt"));
  expect_equal(pictures("csv"), pictures("txt"));
}

TEST_F(Batch, ResultsComeInTheOrderOfTheFile) {
  make("jobs.txt", jobs(6));
  const Result ordered = batch({"--batch-size", "4", "--outdir", "a", "--json"});
  EXPECT_EQ(ordered.code, 0) << ordered.err;
  const std::vector<json> lines = objects(ordered.out);
  ASSERT_EQ(lines.size(), 6u);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(lines[i].at("index"), i);
    EXPECT_EQ(lines[i].at("line"), i + 1);
    EXPECT_EQ(lines[i].at("status"), "done");
    EXPECT_EQ(lines[i].at("path"), "a/0000" + std::to_string(i) + "-" + std::to_string(100 + i) + ".png");
  }
  const Result unordered = batch({"--batch-size", "4", "--outdir", "b", "--unordered"});
  EXPECT_EQ(unordered.out,
            "b/00000-100.png\nb/00002-102.png\nb/00003-103.png\nb/00005-105.png\nb/00001-101.png\nb/00004-104.png\n");
  expect_equal(pictures("b"), pictures("a"));
}

TEST_F(Batch, BadLinesOfAFileAreAllListedBeforeAnythingRuns) {
  make("jobs.txt", "a fox\na fox --stepz 3\n{\"prompt\": 5}\nan owl --w 500\n");
  refuses({},
          {"jobs.txt:2: unknown flag --stepz", "jobs.txt:3: prompt \"5\": expected a text", "jobs.txt:4: --w \"500\""});
  make("jobs.txt", "a fox\na fox --clip_skip 99\nan owl --sampler dpm++2m --eta 0.5\nan owl --clip_skip 98\n");
  refuses({}, {"jobs.txt:2: ", "jobs.txt:4: ", "this text encoder has layers 1 to 4"});
  make("jobs.txt", "");
  refuses({}, {"jobs.txt: there is no job in it"});
  EXPECT_EQ(batch({}, "missing.txt").code, 3);
}

TEST_F(Batch, KeepGoingLeavesBadLinesOut) {
  make("jobs.txt", "a fox\na fox --stepz 3\nan owl\n");
  const Result r = batch({"--keep-going", "--json", "--outdir", "out"});
  EXPECT_EQ(r.code, 5) << r.err;
  expect_words(r.err, {"jobs.txt:2: unknown flag --stepz", "1 bad lines were left out"});
  const std::vector<json> lines = objects(r.out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1].at("status"), "bad line");
  EXPECT_EQ(lines[1].at("line"), 2);
  expect_words(lines[1].at("error").get<std::string>(), {"--stepz"});
  EXPECT_EQ(lines[2].at("path"), "out/00002-102.png") << "a bad line keeps its place and its seed";
}

TEST_F(Batch, AFailingJobDoesNotEndTheBatch) {
  make("jobs.txt", "a fox\na fox --init_img missing.png\nan owl\n");
  const Result r = batch({"--json", "--batch-size", "3", "--outdir", "out", "--manifest", "m.jsonl"});
  EXPECT_EQ(r.code, 5) << r.err;
  expect_words(r.err, {"picture 1: ", "missing.png", "1 of 3 pictures failed"});
  const std::vector<json> lines = objects(r.out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1].at("status"), "failed");
  expect_words(lines[1].at("error").get<std::string>(), {"missing.png"});
  EXPECT_EQ(names(pictures("out")), (Words{"00000-100.png", "00002-102.png"}));
  EXPECT_FALSE(ManifestReader(folder_ / "m.jsonl").find(1)->is_done());

  make("bad.txt", "a fox --init_img missing.png\n");
  const Result all = batch({"--json", "--outdir", "none"}, "bad.txt");
  EXPECT_EQ(all.code, 3) << "there is nothing but files that cannot be read";
  EXPECT_EQ(objects(all.out).at(0).at("status"), "failed") << "the first picture's failure is told too";
}

TEST_F(Batch, WhatDryRunPrintsIsAJobFile) {
  make("animals.txt", "fox\nowl\n");
  make("jobs.txt",
       "a {red|blue|green} __animals__\n\\{a\\} cat --sampler euler_a\na __animals__ --d 5 --batch_count 2\n");
  const Result dry = batch({"--wildcard-dir", ".", "--dry-run"});
  EXPECT_EQ(dry.code, 0) << dry.err;
  ASSERT_EQ(objects(dry.out).size(), 4u);
  EXPECT_EQ(objects(dry.out)[1].at("prompt"), "{a} cat");
  EXPECT_EQ(objects(dry.out)[0].at("prompt").get<std::string>().find_first_of("{_"), std::string::npos);
  EXPECT_EQ(objects(batch({"--wildcard-dir", ".", "--dry-run"}).out)[0], objects(dry.out)[0]) << "chosen by the seed";
  make("dry.jsonl", dry.out);
  EXPECT_EQ(batch({"--wildcard-dir", ".", "--outdir", "a"}).code, 0);
  const Result again = run({"--from-file", "dry.jsonl", "--outdir", "b", "-t", "1"});
  EXPECT_EQ(again.code, 0) << again.err;
  expect_equal(pictures("b"), pictures("a"));
}

TEST_F(Batch, SweepsAndTheirSheet) {
  const Words sweep = {"a fox",    "-s",  "1",          "--sweep", "cfg=2,6", "--sweep", "sampler=ddim,euler,heun",
                       "--outdir", "out", "--manifest", "m.jsonl"};
  const Result r = draw(with(sweep, {"--grid", "sheet.png", "--json"}));
  EXPECT_EQ(r.code, 0) << r.err;
  const std::vector<json> lines = objects(r.out);
  ASSERT_EQ(lines.size(), 6u);
  std::string order;
  for (const json& line : lines)
    order +=
        line.at("request").at("cfg_scale").dump() + " " + line.at("request").at("sampler").get<std::string>() + "\n";
  EXPECT_EQ(order, "2.0 ddim\n2.0 euler\n2.0 heun\n6.0 ddim\n6.0 euler\n6.0 heun\n");
  const Image sheet = read_png(folder_ / "sheet.png");
  EXPECT_EQ(sheet.width, 4 + 3 * (64 + 4)) << "a column for each sampler";
  EXPECT_EQ(sheet.height, 4 + 2 * (64 + 12 + 4)) << "a row for each scale";

  const Result again = draw(with(sweep, {"--grid", "again.png", "--resume"}));
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.out, "");
  EXPECT_EQ(bytes("again.png"), bytes("sheet.png")) << "pictures that were done before are on it too";
}

TEST_F(Batch, SkipSaveWritesNothing) {
  make("jobs.txt", jobs(3));
  const Words before = files();
  const Result r = batch({"--skip-save", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  ASSERT_EQ(objects(r.out).size(), 3u);
  EXPECT_FALSE(objects(r.out)[0].contains("path"));
  EXPECT_EQ(files(), before);
  EXPECT_EQ(batch({"--skip-save"}).out, "");
}

TEST_F(Batch, NamesThatCannotBeAreToldBeforeAnythingRuns) {
  make("jobs.txt", "a fox --d 5\nan owl\na cat --d 5\n");
  refuses({"-o", "{seed}.png"}, {"pictures 0 and 2 would both be refused/5.png: put {index} in the name"});
  refuses({"-o", "{seed}.png", "--overwrite"}, {"would both be"});
  refuses({"-o", "all.png"}, {"3 pictures need {index} or {seed} in the name"});
  fs::create_directory(folder_ / "refused");
  make("refused/00001_ddim.txt", "");
  make("refused/00001_ddim", "kept");
  refuses({"-o", "{index}_{sampler}", "--sampler", "ddim"}, {"refused/00001_ddim exists: --overwrite replaces it"});
  EXPECT_EQ(bytes("refused/00001_ddim"), "kept");
  make("m.jsonl", "");
  refuses({"--manifest", "m.jsonl"}, {"--manifest: m.jsonl exists: --resume goes on with its run"});
  const Result missing = batch({"-o", "no/such/{index}.png"});
  EXPECT_EQ(missing.code, 3) << missing.err;
  expect_words(missing.err, {"there is no folder no/such"});
}

TEST_F(Batch, OptionsWithoutEffect) {
  make("jobs.txt", "a fox\n");
  refuses({"a prompt"}, {"the prompts are in the file"});
  refuses({"--wildcards"}, {"--wildcards has no effect with --from-file"});
  refuses({"--shard", "3/3"}, {"--shard"});
  refuses({"--sweep", "cfgg=1"}, {"--sweep"});
  const Result seedless = draw({"--from-file", "jobs.txt", "--shard", "0/2"});
  EXPECT_EQ(seedless.code, 2);
  expect_words(seedless.err, {"--shard wants -s"});
  const Result alone = draw({"a fox", "--keep-going"});
  EXPECT_EQ(alone.code, 2);
  expect_words(alone.err, {"--keep-going has no effect without --from-file"});
}

// ---- streams ------------------------------------------------------------------------------------------------------

TEST_F(Batch, AWrapperKeepsOneProcess) {
  Program program(small({"--from-file", "-", "--json", "-s", "1", "-t", "1"}), here({.keep_input_open = true}));
  program.write("{\"prompt\": \"a fox\", \"id\": \"first\"}\n");
  program.wait_for("\"id\":\"first\"");  // while the pipe stays open
  program.write(
      "{\"prompt\": \"an owl\", \"id\": 2}\n{\"prompt\": \"a cat\", \"init_img\": \"none.png\", \"id\": 3}\n");
  program.wait_for("\"id\":3");
  program.write("{\"prompt\": \"a dog\", \"id\": 4}");  // its end is the pipe's
  program.close_input();
  const Result r = program.finish();
  EXPECT_EQ(r.code, 5) << r.err;
  std::string told;
  for (const json& line : objects(r.out)) told += line.at("id").dump() + " " + line.at("status").dump() + "\n";
  EXPECT_EQ(told, "\"first\" \"done\"\n2 \"done\"\n3 \"failed\"\n4 \"done\"\n");
  EXPECT_EQ(read_png(folder_ / "00003-4.png").width, 64);
}

TEST_F(Batch, CancellingWhatWaitsAndWhatIsDrawn) {
  Program program({"--from-file", "-", "--json", "-s", "1", "-t", "1", "--progress", "json", "-W", "64", "-H", "64"},
                  here({.keep_input_open = true}));
  program.write("{\"prompt\": \"a fox\", \"id\": \"long\", \"steps\": 900}\n");
  program.wait_for("\"step\":2");
  program.write(
      "{\"prompt\": \"an owl\", \"id\": \"waits\", \"steps\": 900}\n{\"cancel\": \"waits\"}\n{\"cancel\": \"no "
      "such\"}\n");
  program.wait_for("no such job");
  program.write("{\"cancel\": \"long\"}\n{\"prompt\": \"a cat\", \"id\": \"after\", \"steps\": 1}\n");
  program.wait_for("\"id\":\"after\"");
  program.close_input();
  const Result r = program.finish();
  EXPECT_EQ(r.code, 0) << r.err;
  std::map<std::string, std::string> told;
  for (const json& line : objects(r.out)) told[line.at("id")] = line.at("status");
  EXPECT_EQ(told,
            (std::map<std::string, std::string>{{"long", "cancelled"}, {"waits", "cancelled"}, {"after", "done"}}));
  EXPECT_EQ(files(), Words{"00002-3.png"});
}

TEST_F(Batch, ABadLineOfAStreamStopsItWhereItIsReached) {
  const Words stream = {"--from-file", "-", "-s", "1", "--batch-size", "1"};
  const Result r = draw(stream, {.input = "a fox\na fox --stepz 3\nan owl\n"});
  EXPECT_EQ(r.code, 2) << r.err;
  EXPECT_EQ(r.out, "00000-1.png\n");
  expect_words(r.err, {"stdin:2: unknown flag --stepz"});
  const Result on = draw(with(stream, {"--keep-going", "-o", "{index}.png"}), {.input = "a fox --stepz 3\nan owl\n"});
  EXPECT_EQ(on.code, 5) << on.err;
  EXPECT_EQ(on.out, "00001.png\n");
}

TEST_F(Batch, StreamsByTheNameOfAPipe) {
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  Program program(small({"--from-file", "pipe", "-s", "1", "-o", "{seed}.png"}), here());
  {
    std::ofstream pipe(folder_ / "pipe");
    pipe << "a fox\n" << std::flush;
    program.wait_for("1.png\n");
    pipe << "an owl --d 1\nan owl\n";
  }
  const Result r = program.finish();
  EXPECT_EQ(r.code, 5) << "its second name is taken: " << r.err;
  EXPECT_EQ(r.out, "1.png\n3.png\n");
  expect_words(r.err, {"picture 1: ", "1.png exists"});
}

TEST_F(Batch, ResultsThatNobodyReadsEndTheRun) {
  make("jobs.txt", jobs(3));
  const Result r = batch({"--batch-size", "1"}, "jobs.txt", {.break_output = true});
  EXPECT_EQ(r.code, 3) << r.err;
  expect_words(r.err, {"standard output", "EPIPE"});
}

}  // namespace
}  // namespace easel::testing
