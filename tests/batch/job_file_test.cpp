// Job files → requests → pictures.
#include <chrono>
#include <limits>
#include <random>

#include "batch/batch_support.h"

namespace easel {
namespace {

using namespace testing;

constexpr uint64_t kLargestSeed = std::numeric_limits<uint64_t>::max();

class JobFile : public FolderTest {
 protected:
  std::vector<JobLine> lines_of(std::string_view text, const std::string& name = "jobs.txt",
                                JobFileOptions options = {}) const {
    JobReader reader(write(name, text), std::move(options));
    return all_lines(reader);
  }
  // The one job of a text without faults.
  JobLine job_of(std::string_view text, const std::string& name = "jobs.txt") const {
    const std::vector<JobLine> lines = lines_of(text, name);
    EXPECT_EQ(lines.size(), 1u) << text;
    if (lines.size() != 1) return {};
    EXPECT_TRUE(lines[0].faults.empty()) << text << ": " << joined(lines[0].faults);
    return lines[0];
  }
  // The one fault of a text, without the folder.
  std::string fault_of(std::string_view text, const std::string& name = "jobs.txt") const {
    std::string all;
    for (const JobLine& line : lines_of(text, name)) all += joined(line.faults);
    EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 1) << text << ": " << all;
    EXPECT_TRUE(all.starts_with((folder_ / name).string())) << all;
    return all.substr(std::min(all.size(), folder_.string().size() + 1));
  }
};

// ---- prompt lines -------------------------------------------------------------------------------------------------

TEST_F(JobFile, PromptsAndFlags) {
  const JobLine job = job_of("a red fox, in snow --steps 20 --cfg-scale 4.5 --negative-prompt blurry, dark --seed 7\n");
  EXPECT_EQ(job.request.prompt, "a red fox, in snow");
  EXPECT_EQ(job.request.steps, 20);
  EXPECT_EQ(job.request.cfg_scale, 4.5);
  EXPECT_EQ(job.request.negative_prompt, "blurry, dark");
  EXPECT_EQ(job.request.seed, 7u);
  EXPECT_EQ(job.line, 1);
  EXPECT_EQ(job.index, 0);
  EXPECT_EQ(to_json(job.request).size(), 5u);
}

TEST_F(JobFile, SpellingsOfOthers) {
  const JobLine kohya = job_of("a cat --n bad hands --w 64 --h 32 --d 5 --s 9 --l 3 --t 0.5\n");
  EXPECT_EQ(
      to_json(kohya.request).dump(),
      R"({"prompt":"a cat","negative_prompt":"bad hands","width":64,"height":32,"seed":5,"steps":9,"cfg_scale":3.0,)"
      R"("strength":0.5})");
  const JobLine a1111 = job_of(R"(--prompt "a \"cat\", it's --here" --negative_prompt "x" --sampler_name "DPM++ 2M" )"
                               "--n_iter 3 --cfg_scale 2 --sd_model /m");
  EXPECT_EQ(a1111.request.prompt, "a \"cat\", it's --here");
  EXPECT_EQ(a1111.request.negative_prompt, "x");
  EXPECT_EQ(a1111.request.sampler, "DPM++ 2M");
  EXPECT_EQ(a1111.request.model, "/m");
  EXPECT_EQ(a1111.batch_count, 3);
}

TEST_F(JobFile, QuotesGroupAndApostrophesAreLiteral) {
  const auto prompt = [&](const std::string& line) {
    return job_of(line + " --steps 3").request.prompt.value_or("unset");
  };
  EXPECT_EQ(prompt(R"("a sign, --help")"), "a sign, --help");
  EXPECT_EQ(prompt(R"(a sign that says "use --help now")"), R"(a sign that says "use --help now")");
  EXPECT_EQ(prompt(R"(a cat's 5" screen)"), R"(a cat's 5" screen)");
  EXPECT_EQ(prompt(R"(a \"b c)"), R"(a "b c)");
  EXPECT_EQ(prompt(R"("a" and "b")"), R"("a" and "b")");
  EXPECT_EQ(prompt(R"("back\\slash \(x\) \"q\"")"), R"(back\slash \(x\) "q")");
  EXPECT_EQ(prompt(R"(\(parens\) a\\b)"), R"(\(parens\) a\\b)");
  EXPECT_EQ(prompt(R"("")"), "");
  EXPECT_EQ(prompt("a -- b --- c --5 -s 4"), "a -- b --- c --5 -s 4");
  EXPECT_EQ(prompt("\t a \t b  "), "a \t b");
  expect_words(fault_of("a \"big one --steps 3"), "jobs.txt:1: a double quote is not closed: \"big one --steps 3");
  EXPECT_EQ(job_of("a --n \"\"").request.negative_prompt, "");
  EXPECT_EQ(job_of("a --n \"  \"").request.negative_prompt, "  ");
}

TEST_F(JobFile, FlagsAlone) {
  const JobLine job = job_of("--seed 5\n");
  EXPECT_FALSE(job.request.prompt.has_value());
  EXPECT_EQ(job.request.seed, 5u);
}

TEST_F(JobFile, Switches) {
  const RequestField* field = nullptr;
  for (const RequestField& each : request_fields()) {
    if (each.is_switch()) field = &each;
  }
  ASSERT_NE(field, nullptr);
  const auto value = [&](const std::string& line) { return to_json(job_of(line).request)[field->name].dump(); };
  EXPECT_EQ(value("a --" + field->name), "true");
  EXPECT_EQ(value("a --" + field->name + " --steps 3"), "true");
  EXPECT_EQ(value("a --" + field->name + " false"), "false");
  EXPECT_EQ(value("{\"" + field->name + "\": false}"), "false");
  expect_words(fault_of("a --" + field->name + " yes"), "\"yes\": expected true or false");
  expect_words(fault_of("{\"" + field->name + "\": 1}"), "expected true or false");
}

TEST_F(JobFile, CommentsAndBlankLines) {
  const auto lines = lines_of("# a comment\n#\n\n   \t\n#hashtag\n\\# no comment\n # indented\n#\tx\n\\#tag\n");
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0].request.prompt, "#hashtag");
  EXPECT_EQ(lines[0].line, 5);
  EXPECT_EQ(lines[1].request.prompt, "# no comment");
  EXPECT_EQ(lines[1].index, 1);
  EXPECT_EQ(lines[2].request.prompt, "# indented");
  EXPECT_EQ(lines[3].request.prompt, "#tag");
}

TEST_F(JobFile, LineEndsAndMarks) {
  const auto lines = lines_of("\xEF\xBB\xBF# c\r\na cat --steps 3\r\n\r\n{\"prompt\": \"b\"}\r\nlast");
  ASSERT_EQ(lines.size(), 3u);
  for (const JobLine& line : lines) EXPECT_TRUE(line.faults.empty()) << joined(line.faults);
  EXPECT_EQ(lines[0].request.steps, 3);
  EXPECT_EQ(lines[1].request.prompt, "b");
  EXPECT_EQ(lines[2].request.prompt, "last");
  EXPECT_EQ(lines[2].line, 5);
  EXPECT_EQ(job_of("\xEF\xBB\xBF{\"prompt\": \"b\"}").request.prompt, "b");
  EXPECT_TRUE(lines_of("").empty());
  EXPECT_TRUE(lines_of("\xEF\xBB\xBF").empty());
}

TEST_F(JobFile, FaultsNameFileAndLine) {
  EXPECT_EQ(fault_of("a\nb --steps x\n"), "jobs.txt:2: --steps \"x\": expected a whole number from 1 to 1000\n");
  expect_words(fault_of("a --w 30"), "jobs.txt:1: --w \"30\": expected a multiple of 8");
  expect_words(fault_of("a --stepz 3"), "unknown flag --stepz; did you mean --steps");
  expect_words(fault_of("a --steps=3"), "unknown flag --steps=3; its value stands after a blank");
  expect_words(fault_of("a --steps 3 --steps 4"), "--steps is given twice");
  expect_words(fault_of("a --steps 3 --s 4"), "--steps and --s say the same");
  expect_words(fault_of("a --prompt b"), "the prompt and --prompt say the same");
  expect_words(fault_of("a --steps --seed 4"), "--steps: a value is missing; \"\" is an empty one");
  expect_words(fault_of("a --seed -1"), "leave -s out for a random seed");
  expect_words(fault_of("a --id 5"), "unknown flag --id");
  expect_words(fault_of("a --batch-count 0"), "--batch-count \"0\": expected a whole number from 1 to 1000000");
  expect_words(fault_of("a --batch-count 99999999999999999999"), "expected a whole number from 1 to 1000000");
  expect_words(fault_of("a\n" + std::string(kLongestJobLine + 1, 'x') + "\nb"),
               "jobs.txt:2: longer than 1048576 bytes");
  expect_words(fault_of(std::string("a\0b", 3)), "jobs.txt:1: it holds a NUL byte");
  expect_words(fault_of("a\xC3("), "jobs.txt:1: not valid UTF-8 at byte 1");
  expect_words(fault_of(std::string("\xFF\xFE"
                                    "a\0\n\0b\0",
                                    8)),
               "jobs.txt:1: this is UTF-16; save the file as UTF-8");
  const auto both = lines_of("a --steps x --width 3 --foo");
  ASSERT_EQ(both.size(), 1u);
  EXPECT_EQ(both[0].faults.size(), 3u) << joined(both[0].faults);
}

TEST_F(JobFile, LongestLineFits) {
  const std::string longest(kLongestJobLine, 'x');
  const auto lines = lines_of(longest + "\n" + longest + "y\n" + longest);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].request.prompt, longest);
  EXPECT_EQ(lines[1].faults.size(), 1u);
  EXPECT_EQ(lines[2].request.prompt, longest);
  EXPECT_EQ(lines[2].line, 3);
}

TEST_F(JobFile, BadLinesCountAsJobs) {
  const auto lines = lines_of("a\nb --foo 3\nc\n");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1].index, 1);
  EXPECT_EQ(lines[2].index, 2);
}

// ---- JSON ---------------------------------------------------------------------------------------------------------

TEST_F(JobFile, Json) {
  const JobLine job = job_of(
      R"({"prompt": "a\nb", "negative_prompt": null, "seed": "18446744073709551615", "guidance_scale": 3, "id": "x7", )"
      R"("batch_count": 4, "wildcards": false})");
  EXPECT_EQ(job.request.prompt, "a\nb");
  EXPECT_FALSE(job.request.negative_prompt.has_value());
  EXPECT_EQ(job.request.seed, kLargestSeed);
  EXPECT_EQ(job.request.cfg_scale, 3);
  EXPECT_EQ(job.id, json("x7"));
  EXPECT_EQ(job.batch_count, 4);
  EXPECT_FALSE(job.wildcards);
  EXPECT_EQ(job_of(R"({"id": -3})").id, json(-3));
  EXPECT_TRUE(job_of(R"({"seed": 18446744073709551615})").wildcards);
}

TEST_F(JobFile, JsonExactlyIfItBeginsWithBraceAndQuote) {
  EXPECT_EQ(job_of("{ \"prompt\": \"x\" }").request.prompt, "{ \"prompt\": \"x\" }");
  EXPECT_EQ(job_of("{a|b} cat").request.prompt, "{a|b} cat");
  expect_words(fault_of("{\"a\"|b} cat"), "jobs.txt:1: not valid JSON at column 5");
}

TEST_F(JobFile, JsonFaults) {
  expect_words(fault_of("{\"prompt\": \"a\""), "not valid JSON at column 15: syntax error while parsing object");
  expect_words(fault_of("{\"steps\": 1e999}"), "not valid JSON");
  expect_words(fault_of("{\"steps\": \"5\"}"), "steps \"\\\"5\\\"\": expected a whole number");
  expect_words(fault_of("{\"steps\": 5.5}"), "steps \"5.5\": expected a whole number");
  expect_words(fault_of("{\"step\": 5}"), "unknown key \"step\"; did you mean steps");
  expect_words(fault_of("{\"cfg-scale\": 5}"), "unknown key \"cfg-scale\"; did you mean cfg, cfg_scale");
  expect_words(fault_of("{\"w\": 64}"), "unknown key \"w\"");
  expect_words(fault_of("{\"steps\": 5, \"steps\": 6}"), "\"steps\" is given twice");
  expect_words(fault_of("{\"steps\": 5, \"num_inference_steps\": 6}"), "num_inference_steps and steps say the same");
  expect_words(fault_of("{\"prompt\": \"a\\u0000b\"}"), "a text holds a NUL");
  expect_words(fault_of("{\"prompt\": \"\\ud800\"}"), "not valid JSON");
  expect_words(fault_of("{\"id\": 1.5}"), "id 1.5: expected a text or a whole number");
  expect_words(fault_of("{\"id\": [1]}"), "id [1]: expected a text or a whole number");
  expect_words(fault_of("{\"batch_count\": 0}"), "batch_count 0: expected a whole number from 1");
  expect_words(fault_of("{\"batch_count\": 18446744073709551615}"), "expected a whole number from 1");
  expect_words(fault_of("{\"wildcards\": 1}"), "wildcards 1: expected true or false");
  expect_words(fault_of("{\"steps\": [[[[[[[[[[1]]]]]]]]]]}"), "nested deeper than 8 levels");
  expect_words(fault_of("{\"a\":" + std::string(500'000, '[')), "jobs.txt:1: ");
  expect_words(fault_of("{\"a\":" + std::string(400'000, '[') + std::string(400'000, ']') + "}"), "nested deeper");
  expect_words(fault_of("{\"prompt\": \"a\"} {\"prompt\": \"b\"}"), "not valid JSON");
}

TEST_F(JobFile, CancelIsACommandOfStreams) {
  expect_words(fault_of("{\"cancel\": 5}"), "cancel has a meaning only in a stream");
  const auto lines = lines_of(
      "{\"prompt\": \"a\", \"id\": 5}\n{\"cancel\": 5}\n{\"prompt\": \"b\"}\n{\"cancel\": 5, \"id\": 6}\n"
      "{\"cancel\": null}\n",
      "jobs.txt", {.folder = {}, .commands = true});
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[1].cancel, json(5));
  EXPECT_EQ(lines[1].index, -1);
  EXPECT_EQ(lines[2].index, 1) << "a command is no job";
  expect_words(joined(lines[3].faults), "cancel is a command: it stands alone");
  expect_words(joined(lines[4].faults), "cancel null: expected a text or a whole number");
}

// A value of each field that the table allows.
std::string sample_of(const RequestField& field) {
  if (!field.words.empty()) return field.words.back();
  if (field.form == TextForm::kSize) return "1024x768";
  if (field.form == TextForm::kPoint) return "0,128";
  if (field.form == TextForm::kMargins) return "0,0,25%,64";
  if (field.is_switch()) return "true";
  if (std::holds_alternative<std::optional<double> Request::*>(field.member) ||
      std::holds_alternative<std::optional<std::vector<double>> Request::*>(field.member))
    return plain(field.low + (field.high - field.low) / 3);
  if (std::holds_alternative<std::optional<uint64_t> Request::*>(field.member)) return std::to_string(kLargestSeed);
  if (std::holds_alternative<std::optional<int64_t> Request::*>(field.member))
    return std::to_string(static_cast<int64_t>(field.high) / field.multiple_of * field.multiple_of);
  return field.is_path ? "/some/place.x" : " \"a\" {b|c} __d__ --steps\n\t\\ é ☃ ";
}

Request with_every_field() {
  Request request;
  Faults faults;
  for (const RequestField& field : request_fields())
    set_from_text(request, field, sample_of(field), field.name, faults);
  EXPECT_TRUE(faults.empty()) << joined(faults);
  EXPECT_EQ(to_json(request).size(), request_fields().size());
  return request;
}

TEST_F(JobFile, WhatADryRunPrintsIsAJob) {
  const Request request = with_every_field();
  const JobLine plain = job_of(to_json(request).dump());
  EXPECT_EQ(to_json(plain.request).dump(), to_json(request).dump());
  const JobLine line = job_of(job_json(request).dump());
  EXPECT_EQ(to_json(line.request).dump(), to_json(request).dump());
  EXPECT_TRUE(plain.wildcards);
  EXPECT_FALSE(line.wildcards) << "its prompt has braces that are no wildcards any more";
  Request simple;
  simple.prompt = "a cat";
  EXPECT_EQ(job_json(simple).dump(), R"({"prompt":"a cat"})");
  simple.model = "some/where";
  EXPECT_EQ(job_json(simple)["model"], (fs::current_path() / "some/where").string());
}

TEST_F(JobFile, EveryFieldAsAFlagAndAColumn) {
  const std::string prompt = "a fox";
  for (const RequestField& field : request_fields()) {
    if (field.name == "prompt") continue;
    std::string sample = sample_of(field);
    if (sample.find('\n') != std::string::npos) sample = "some, text";  // a prompt line is one line
    std::string dashed = field.name;
    std::replace(dashed.begin(), dashed.end(), '_', '-');
    Request expected;
    Faults faults;
    expected.prompt = prompt;
    set_from_text(expected, field, sample, field.name, faults);
    for (const std::string& flag : {field.name, dashed})
      EXPECT_EQ(to_json(job_of(prompt + " --" + flag + " " + sample).request).dump(), to_json(expected).dump());
    const JobLine row = job_of("prompt," + field.name + "\n" + prompt + ",\"" + sample + "\"\n", "jobs.csv");
    EXPECT_EQ(to_json(row.request).dump(), to_json(expected).dump());
  }
}

TEST_F(JobFile, PathsLeadFromTheJobFile) {
  write("sub/net/model_index.json", "{}");
  const auto model = [&](const std::string& path, JobFileOptions options = {}) {
    return lines_of("a --model " + path, "sub/jobs.txt", std::move(options)).at(0).request.model.value_or("");
  };
  EXPECT_EQ(model("net"), (folder_ / "sub/net").string());
  EXPECT_EQ(model("../x.safetensors"), (folder_ / "sub/../x.safetensors").string());
  EXPECT_EQ(model("/abs/x"), "/abs/x");
  EXPECT_EQ(model("\"\""), "");
  EXPECT_EQ(model("net", {.folder = "elsewhere"}), "elsewhere/net");
  EXPECT_EQ(model("net", {.folder = ""}), "net");
  EXPECT_EQ(model(kBundledModel), kBundledModel) << "a bundled model's name is no path";
  fs::create_directories(folder_ / "sub" / kBundledModel);
  EXPECT_EQ(model(kBundledModel), (folder_ / "sub" / kBundledModel).string()) << "a folder of that name goes first";
  std::size_t paths = 0;
  for (const RequestField& field : request_fields()) {
    if (!field.is_path) continue;
    ++paths;
    const auto lines = lines_of("a --" + field.name + " x/y", "sub/jobs.txt");
    const nlohmann::ordered_json led = to_json(lines.at(0).request)[field.name];
    EXPECT_EQ(field.is_list() ? led.at(0) : led, (folder_ / "sub/x/y").string()) << field.name;
  }
  EXPECT_GE(paths, 3u);
}

// ---- CSV ----------------------------------------------------------------------------------------------------------

TEST_F(JobFile, Csv) {
  const auto lines = lines_of(
      "\xEF\xBB\xBFprompt,steps,negative_prompt,id,batch_count\r\n"
      "\"a, \"\"b\"\"\",5,,x1,\r\n"
      "\r\n"
      "\"two\nlines\",,\"\",,2\n"
      "# no comment,,,,\n"
      "last,,,,",
      "jobs.csv");
  ASSERT_EQ(lines.size(), 4u);
  for (const JobLine& line : lines) EXPECT_TRUE(line.faults.empty()) << joined(line.faults);
  EXPECT_EQ(lines[0].request.prompt, "a, \"b\"");
  EXPECT_EQ(lines[0].request.steps, 5);
  EXPECT_FALSE(lines[0].request.negative_prompt.has_value());
  EXPECT_EQ(lines[0].id, json("x1"));
  EXPECT_EQ(lines[0].line, 2);
  EXPECT_EQ(lines[1].request.prompt, "two\nlines");
  EXPECT_EQ(lines[1].request.negative_prompt, "");
  EXPECT_EQ(lines[1].batch_count, 2);
  EXPECT_EQ(lines[1].line, 4);
  EXPECT_EQ(lines[2].line, 6);
  EXPECT_EQ(lines[2].request.prompt, "# no comment");
  EXPECT_EQ(lines[3].index, 3);
}

TEST_F(JobFile, CsvFaults) {
  const auto fault = [&](const std::string& text) { return fault_of(text, "jobs.csv"); };
  expect_words(fault("prompt,steps\na,x\n"), "jobs.csv:2: steps \"x\": expected a whole number");
  expect_words(fault("prompt,steps\na\n"), "jobs.csv:2: 1 cells: expected 2");
  expect_words(fault("prompt,steps\na,5,6\n"), "jobs.csv:2: 3 cells: expected 2");
  expect_words(fault("prompt\na \"b\"\n"), "jobs.csv:2: a double quote inside an unquoted cell");
  expect_words(fault("prompt\n\"a\"b\n"), "jobs.csv:2: text after a cell's closing quote");
  expect_words(fault("prompt\nok\n\"a\nb\nc"), "jobs.csv:3: the file ends inside a quoted cell");
  expect_words(fault("prompt\nok\n\"a\nb\nc\n"), "jobs.csv:3: the file ends inside a quoted cell");
  expect_words(fault("prompt\na\xFF\n"), "jobs.csv:2: not valid UTF-8 at byte 1");
  expect_words(fault(std::string("prompt\na\0\n", 10)), "jobs.csv:2: it holds a NUL");
  expect_words(fault("prompt\n" + std::string(kLongestJobLine + 1, 'x') + "\n"), "jobs.csv:2: longer than");
  expect_words(fault("prompt,stepz\na,5\n"), "jobs.csv:1: unknown column \"stepz\"; did you mean steps");
  expect_words(fault("prompt,steps,prompt\na,5,b\n"), "jobs.csv:1: column prompt is given twice");
  expect_words(fault("steps\n5\n"), "jobs.csv:1: the first line of a CSV file names its columns");
  expect_words(fault(""), "jobs.csv:1: the first line of a CSV file names its columns");
  expect_words(fault("prompt,cancel\na,5\n"), "unknown column \"cancel\"");
  const auto rest =
      lines_of("prompt\n\"" + std::string(700'000, 'x') + "\n" + std::string(700'000, 'y') + "\nb\n", "jobs.csv");
  ASSERT_EQ(rest.size(), 2u) << "reading goes on after a row that does not end";
  expect_words(joined(rest[0].faults), "jobs.csv:2: the row does not end within 1048576 bytes");
  EXPECT_EQ(rest[1].request.prompt, "b");
}

// ---- pipes --------------------------------------------------------------------------------------------------------

TEST_F(JobFile, PipesAreReadAsTheyCome) {
  Pipe pipe;
  JobReader reader(pipe.ends[0], "stdin", {.folder = {}, .commands = true});
  EXPECT_FALSE(reader.is_ready());
  pipe.write("# nothing yet\na ca");
  EXPECT_FALSE(reader.is_ready()) << "a comment is no job, half a line no line";
  pipe.write("t --steps 4\n{\"cancel\": 1}\nb --steps x");
  EXPECT_TRUE(reader.is_ready());
  const auto job = reader.next();
  ASSERT_TRUE(job);
  EXPECT_EQ(job->request.prompt, "a cat");
  EXPECT_EQ(job->line, 2);
  EXPECT_EQ(reader.next()->cancel, json(1));
  EXPECT_FALSE(reader.is_ready());
  pipe.close_writing();
  EXPECT_TRUE(reader.is_ready());
  expect_words(joined(reader.next()->faults), "stdin:4: --steps \"x\": expected");
  EXPECT_TRUE(reader.is_ready());
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.next());
}

TEST_F(JobFile, WhatCannotBeRead) {
  expect_words(error_of(ErrorKind::kFile, [&] { JobReader reader(folder_ / "missing"); }), "missing: cannot be opened");
  expect_words(error_of(ErrorKind::kFile,
                        [&] {
                          JobReader reader(folder_);
                          reader.next();
                        }),
               "cannot be read: Is a directory");
  expect_words(error_of(ErrorKind::kFile, [&] { check_jobs("/dev/null", {}, {}); }), "no regular file");
}

// ---- pictures -----------------------------------------------------------------------------------------------------

struct Pictures {
  std::vector<JobPicture> list;
  std::string faults;
};

Pictures pictures_of(const fs::path& file, JobOptions options) {
  JobStream stream(JobReader(file), std::move(options));
  Pictures out;
  for (JobEvent event = stream.next(); event.kind != JobEvent::Kind::kEnd; event = stream.next()) {
    EXPECT_NE(event.kind, JobEvent::Kind::kCancel);
    if (event.kind == JobEvent::Kind::kPicture) out.list.push_back(event.picture);
    out.faults += joined(event.faults);
  }
  return out;
}

TEST_F(JobFile, SeedsCountWithTheJobs) {
  const fs::path file = write("jobs.txt", "a\nb --seed 5 --batch-count 3\n# c\nd\ne --bad\nf --batch-count 2\n");
  const Pictures pictures = pictures_of(file, {.flags = {}, .base_seed = 100});
  std::vector<uint64_t> seeds;
  std::vector<int64_t> indices, jobs;
  for (const JobPicture& picture : pictures.list) {
    seeds.push_back(*picture.request.seed);
    indices.push_back(picture.index);
    jobs.push_back(picture.job);
  }
  EXPECT_EQ(seeds, (std::vector<uint64_t>{100, 5, 6, 7, 102, 104, 105}));
  EXPECT_EQ(indices, (std::vector<int64_t>{0, 1, 2, 3, 4, 6, 7})) << "the bad line keeps its place";
  EXPECT_EQ(jobs, (std::vector<int64_t>{0, 1, 1, 1, 2, 4, 4}));
  EXPECT_EQ(pictures.list[6].line, 6);
  expect_words(pictures.faults, "jobs.txt:5: unknown flag --bad");
}

TEST_F(JobFile, FlagsWinOverLinesButForTheSeed) {
  Request flags;
  flags.steps = 9;
  flags.seed = 1;
  flags.negative_prompt = "n";
  const auto pictures = pictures_of(write("jobs.txt", "a --steps 3 --cfg-scale 2\nb --seed 4\n"),
                                    {.flags = flags, .base_seed = 50, .batch_count = 2});
  ASSERT_EQ(pictures.list.size(), 4u);
  EXPECT_EQ(to_json(pictures.list[1].request).dump(),
            R"({"prompt":"a","negative_prompt":"n","seed":51,"steps":9,"cfg_scale":2.0})");
  EXPECT_EQ(pictures.list[2].request.seed, 4u);
}

TEST_F(JobFile, SeedsPastTheLast) {
  const auto faults = [&](const std::string& text, uint64_t base) {
    return pictures_of(write("jobs.txt", text), {.flags = {}, .base_seed = base}).faults;
  };
  EXPECT_EQ(faults("a --seed 18446744073709551615", 0), "");
  EXPECT_EQ(faults("a --seed 18446744073709551614 --batch-count 2", 0), "");
  expect_words(faults("a\nb --seed 18446744073709551614 --batch-count 3", 0),
               "jobs.txt:2: seed 18446744073709551614 with batch_count 3: the last seed would be past");
  EXPECT_EQ(faults("a\nb", kLargestSeed - 1), "");
  expect_words(faults("a\nb\nc", kLargestSeed - 1), "jobs.txt:3: base seed 18446744073709551614 + 2 is past");
}

TEST_F(JobFile, SweepsWalkTheFirstSlowest) {
  JobOptions options{.flags = {}, .base_seed = 10, .batch_count = 2};
  Faults faults;
  options.sweep.add("cfg=4,7", "--sweep", faults);
  options.sweep.add("sampler=ddim,euler", "--sweep", faults);
  EXPECT_TRUE(faults.empty()) << joined(faults);
  const auto pictures = pictures_of(write("jobs.txt", "a\nb\n"), options).list;
  ASSERT_EQ(pictures.size(), 16u);
  std::string walked;
  for (int i = 0; i < 8; ++i) {
    const Request& r = pictures[i].request;
    walked += plain(*r.cfg_scale) + *r.sampler + std::to_string(*r.seed) + " ";
    EXPECT_EQ(pictures[i].index, i);
    EXPECT_EQ(pictures[i].job, 0);
  }
  EXPECT_EQ(walked, "4ddim10 4ddim11 4euler10 4euler11 7ddim10 7ddim11 7euler10 7euler11 ");
  EXPECT_EQ(options.sweep.label(pictures[6].sweep), "cfg_scale 7, sampler euler");
  EXPECT_EQ(pictures[8].request.prompt, "b");
  EXPECT_EQ(pictures[8].request.seed, 11u);
}

TEST(Sweeps, ValuesAndFaults) {
  Faults none;
  Sweep sweep;
  EXPECT_EQ(sweep.size(), 1);
  EXPECT_EQ(sweep.label(0), "");
  sweep.add(R"(prompt="a cat, ""asleep""",a dog,"")", "--sweep", none);
  sweep.add("seed=1,18446744073709551615", "--sweep", none);
  EXPECT_TRUE(none.empty()) << joined(none);
  EXPECT_EQ(sweep.size(), 6);
  EXPECT_EQ(sweep.combination(1).prompt, "a cat, \"asleep\"");
  EXPECT_EQ(sweep.combination(1).seed, kLargestSeed);
  EXPECT_EQ(sweep.combination(5).prompt, "");
  EXPECT_EQ(to_json(sweep.combination(0)).size(), 2u);

  const auto fault = [](const std::string& text) {
    Faults faults;
    Sweep one;
    one.add(text, "--sweep", faults);
    EXPECT_EQ(faults.list().size(), 1u) << joined(faults);
    return joined(faults);
  };
  expect_words(fault("steps"), "--sweep \"steps\": expected NAME=VALUE,VALUE,...");
  expect_words(fault("=3"), "expected NAME=VALUE");
  expect_words(fault("stepz=3"), "--sweep: \"stepz\" is no field of a request; did you mean steps");
  expect_words(fault("batch_count=3"), "is no field of a request");
  expect_words(fault("steps=3,x,5"), "--sweep steps \"x\": expected a whole number");
  expect_words(fault("steps="), "--sweep steps \"\": expected a whole number");
  expect_words(fault("steps=3,4,3"), "--sweep steps: \"3\" is swept twice");
  expect_words(fault("prompt=\"a"), "--sweep prompt: a double quote is not closed");
  Faults twice, many;
  sweep.add("seed=4", "--sweep", twice);
  expect_words(joined(twice), "--sweep: seed is swept already");
  std::string values = "steps=1";
  for (int i = 2; i <= 1000; ++i) values += "," + std::to_string(i);
  sweep.add(values, "--sweep", many);
  values.replace(0, 5, "clip_skip");
  EXPECT_TRUE(many.empty());
  Sweep big;
  big.add(values.substr(0, values.find(",101")), "--sweep", many);
  values.replace(0, 9, "hires_steps");
  big.add("steps" + values.substr(values.find('=')), "--sweep", many);
  EXPECT_TRUE(many.empty()) << joined(many);
  big.add("seed=1,2", "--sweep", many);
  expect_words(joined(many), "more than 100000 combinations");
}

TEST_F(JobFile, OtherChecksSeeTheWholeRequest) {
  JobOptions options{.flags = {}, .base_seed = 1};
  options.flags.sampler = "euler";
  Faults faults;
  options.sweep.add("steps=3,4", "--sweep", faults);
  options.check = [](const Request& request, Faults& found) {
    EXPECT_FALSE(request.seed.has_value());
    if (*request.steps == 4 && request.prompt == "b") found.add(*request.sampler + " cannot");
  };
  const fs::path file = write("jobs.txt", "a\nb\n");
  const Pictures pictures = pictures_of(file, options);
  EXPECT_EQ(pictures.list.size(), 2u);
  EXPECT_EQ(pictures.faults, file.string() + ":2: euler cannot\n");
}

TEST_F(JobFile, StreamsTellCommandsAndBadLinesApart) {
  Pipe pipe;
  JobStream stream(JobReader(pipe.ends[0], "stdin", {.folder = {}, .commands = true}), {.flags = {}, .base_seed = 3});
  EXPECT_FALSE(stream.is_ready());
  pipe.write("{\"prompt\": \"a\", \"id\": \"j\", \"batch_count\": 2}\n{\"cancel\": \"j\"}\n{\"prompt\": 5}\nb\n");
  JobEvent event = stream.next();
  EXPECT_EQ(event.kind, JobEvent::Kind::kPicture);
  EXPECT_EQ(event.picture.id, json("j"));
  EXPECT_TRUE(stream.is_ready());
  event = stream.next();
  EXPECT_EQ(event.picture.request.seed, 4u);
  event = stream.next();
  EXPECT_EQ(event.kind, JobEvent::Kind::kCancel);
  EXPECT_EQ(event.cancel, json("j"));
  event = stream.next();
  EXPECT_EQ(event.kind, JobEvent::Kind::kBadLine);
  EXPECT_EQ(event.line, 3);
  expect_words(joined(event.faults), "stdin:3: prompt \"5\"");
  event = stream.next();
  EXPECT_EQ(event.picture.index, 3);
  EXPECT_EQ(event.picture.request.seed, 5u);
  EXPECT_FALSE(stream.is_ready());
  pipe.close_writing();
  EXPECT_EQ(stream.next().kind, JobEvent::Kind::kEnd);
  EXPECT_EQ(stream.next().kind, JobEvent::Kind::kEnd);
}

TEST_F(JobFile, MorePicturesThanThereAreNumbers) {
  JobOptions options{.flags = {}, .base_seed = 1, .batch_count = std::numeric_limits<int64_t>::max() / 2};
  JobStream stream(JobReader(write("jobs.txt", "a\nb\nc\n")), options);
  EXPECT_EQ(stream.next().picture.index, 0);
  expect_words(error_of(ErrorKind::kUsage, [&] { check_jobs(folder_ / "jobs.txt", {}, options); }),
               "jobs.txt:3: more than 9223372036854775807 pictures");
}

// ---- the checking pass --------------------------------------------------------------------------------------------

TEST_F(JobFile, TheWholeFileIsCheckedFirst) {
  std::string text = "good --batch-count 5\n";
  for (int i = 0; i < 30; ++i) text += "bad --steps x\n";
  const JobCheck check = check_jobs(write("jobs.txt", text), {}, {.flags = {}, .base_seed = 1, .shard = {1, 7}});
  EXPECT_EQ(check.jobs, 31);
  EXPECT_EQ(check.lines, 31);
  EXPECT_EQ(check.pictures, 35);
  EXPECT_EQ(check.fault_count, 30);
  EXPECT_FALSE(check.is_good());
  ASSERT_EQ(check.faults.size(), 20u);
  Faults faults;
  check.add_to(faults, "jobs.txt");
  ASSERT_EQ(faults.list().size(), 21u);
  expect_words(faults.list()[0], "jobs.txt:2: --steps \"x\"");
  EXPECT_EQ(faults.list()[20], "jobs.txt: and 10 more faults");
  const JobCheck good = check_jobs(write("good.txt", "a\n# b\nc"), {}, {});
  EXPECT_TRUE(good.is_good());
  EXPECT_EQ(good.jobs, 2);
  EXPECT_EQ(good.lines, 3);
}

// EASEL_JOB_LINES: another number of lines.
TEST_F(JobFile, AMillionLinesInFlatMemory) {
  const char* asked = std::getenv("EASEL_JOB_LINES");
  const int64_t count = asked != nullptr ? std::atoll(asked) : 200'000;
  {
    std::ofstream out(folder_ / "many.jsonl");
    for (int64_t i = 0; i < count; ++i) {
      if (i % 2 == 0) {
        out << "a red fox number " << i
            << ", in the snow --steps 20 --cfg-scale 7.5 --n blurry, dark --w 512 --h 512\n";
      } else {
        out << R"({"prompt": "a {red|green} fox )" << i << R"(", "steps": 20, "seed": )" << i
            << R"(, "width": 512})"
               "\n";
      }
    }
  }
  const JobOptions options{.flags = {}, .base_seed = 1, .wildcards = std::make_shared<WildcardSource>()};
  check_jobs(write("warm.txt", "a --steps 3\n{\"prompt\": \"b\"}\n"), {}, options);
  const int64_t before = resident_kib();
  const auto start = std::chrono::steady_clock::now();
  const JobCheck check = check_jobs(folder_ / "many.jsonl", {}, options);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const int64_t grown = resident_kib() - before;
  EXPECT_TRUE(check.is_good()) << joined(check.faults);
  EXPECT_EQ(check.jobs, count);
#ifndef __SANITIZE_ADDRESS__  // which keeps what was freed for a while
  EXPECT_LT(grown, 10 * 1024);
#endif
  std::printf("checked %lld lines in %.2f s (%.0f lines/s), memory grew by %lld KiB\n", static_cast<long long>(count),
              seconds, static_cast<double>(count) / seconds, static_cast<long long>(grown));
}

// Whatever happens to a job file, each of its lines is a job, no job or a fault with its place.
TEST_F(JobFile, DamagedFilesAreNoTrouble) {
  const std::string text =
      "a cat --steps 20 --n \"bad, \\\"x\\\"\" --cfg-scale 7\n# c\n{\"prompt\": \"é {a|b}\", \"seed\": "
      "18446744073709551615, "
      "\"id\": [1]}\n\\# x --seed 5 --batch-count 3\n";
  const std::string csv = "prompt,steps,id\n\"a, \"\"b\"\"\",5,x\n\"two\nlines\",,\n";
  std::mt19937 random(7);
  const auto mutated = [&](std::string bytes) {
    for (int n = 1 + static_cast<int>(random() % 4); n > 0; --n) {
      const std::size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + random() % 8);
          break;
        case 2:
          bytes.insert(at, 1, "\"\\{}|_,\n\r\0- \xEF"[random() % 13]);
          break;
        default:
          bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 40));
      }
      if (bytes.empty()) bytes = "x";
    }
    return bytes;
  };
  const auto wildcards = std::make_shared<WildcardSource>();
  int64_t faults = 0;
  for (int i = 0; i < 3000; ++i) {
    const bool is_csv = i % 3 == 0;
    const fs::path file = write(is_csv ? "m.csv" : "m.txt", mutated(is_csv ? csv : text));
    const JobCheck check = check_jobs(file, {}, {.flags = {}, .base_seed = kLargestSeed - 3, .wildcards = wildcards});
    for (const std::string& fault : check.faults) ASSERT_TRUE(fault.starts_with(file.string() + ":")) << fault;
    faults += check.fault_count;
    JobStream stream(JobReader(file), {.flags = {}, .base_seed = 1, .wildcards = wildcards});
    while (stream.next().kind != JobEvent::Kind::kEnd) {
    }
  }
  EXPECT_GT(faults, 1000);
}

}  // namespace
}  // namespace easel
