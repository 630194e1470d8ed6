// Command lines that are wrong, and those that draw nothing.
#include "cli/program.h"
#include "easel/pipeline.h"

namespace easel::testing {
namespace {

class Usage : public CliTest {
 protected:
  // Exit code 2, nothing on standard output, no file.
  void refuses(const Words& arguments, const Words& words, const Surroundings& around = {}) const {
    const Result r = run(arguments, around);
    EXPECT_EQ(r.code, 2) << r.err;
    EXPECT_EQ(r.out, "");
    expect_words(r.err, words);
  }
  std::vector<json> dry_run(Words arguments, const Surroundings& around = {}) const {
    arguments.insert(arguments.begin() + (arguments.front() == "generate"), "--dry-run");
    const Result r = run(arguments, around);
    EXPECT_EQ(r.code, 0) << r.err;
    std::vector<json> requests;
    for (const std::string& line : lines_of(r.out)) requests.push_back(json::parse(line));
    return requests;
  }
};

TEST_F(Usage, EveryFaultIsListedAtOnce) {
  const Words arguments = {
      "a",    "--width", "500",      "--steps",    "0",           "-s",        "-1",    "--cfg-scale", "nan", "--dtype",
      "int4", "-b",      "0",        "--progress", "dots",        "--sampler", "eulre", "--stepz",     "-t",  "x",
      "-n",   "\xff",    "--device", "gpu",        "--clip-skip", "1.5",       "-q",    "-v",          "-m",  ""};
  const Words words = {
      "unknown option --stepz; nearest: --steps",
      "--width \"500\": expected a multiple of 8",
      "--steps \"0\": expected a whole number from 1",
      "--seed \"-1\": expected a whole number from 0 to 18446744073709551615; leave -s out for a random",
      "--cfg-scale \"nan\": expected a number",
      "--dtype \"int4\": expected auto, f32, f16, bf16 or int8",
      "--batch-count '0': expected a whole number from 1",
      "--progress 'dots': expected auto, bar, json or none",
      "unknown sampler 'eulre'; nearest: euler",
      "--threads 'x': expected a whole number from 1",
      "--negative-prompt: not valid UTF-8 at byte 0",
      "--device 'gpu': expected auto, cpu, cuda or cuda:N",
      "--clip-skip \"1.5\": expected a whole number",
      "--quiet and --verbose exclude each other",
      "--model: the name is empty"};
  const Result r = run(arguments);
  EXPECT_EQ(r.code, 2);
  expect_words(r.err, words);
  EXPECT_EQ(lines_of(r.err).size(), words.size()) << r.err;
}

TEST_F(Usage, SeedsAreWholeNumbersBelow2To64) {
  for (const char* seed : {"18446744073709551616", "seven"})
    refuses({"a", "-s", seed}, {"--seed \"" + std::string(seed) + "\": expected a whole number from 0 to"});
  refuses({"a", "-s", "18446744073709551615", "-b", "2"}, {"--batch-count 2: the last seed would be past"});
}

TEST_F(Usage, PromptsThatCannotBeDrawn) {
  refuses({}, {"no prompt", "easel --help"});
  refuses({"caf\xc3", "-p", "-"}, {"--prompt: not valid UTF-8 at byte 3", "it holds a NUL byte"},
          {.input = std::string("a\0b", 3)});
  refuses({"-p", "-", "-p", "-"}, {"standard input can be read only once"});
}

TEST_F(Usage, OptionsAreSpelledAsTheyAre) {
  refuses({"a", "-prompt", "b", "--canvas", "x", "-y", "--json=1", "--eta", "0", "--eta", "1", "--steps"},
          {"-prompt: long options have two dashes: --prompt", "unknown option --canvas", "unknown option -y",
           "--json takes no value", "--eta is given 2 times", "--steps: its value is missing"});
  refuses({"samplers", "x", "--foo"}, {"unexpected argument 'x'", "unknown option --foo", "easel samplers --help"});
}

// Its value is no second prompt, nor is a prompt the value of what is nearest to a switch.
TEST_F(Usage, UnknownOptionsAreTheOnlyFault) {
  for (const Words& arguments :
       {Words{"a cat", "--stepz", "20"}, {"--stepz", "20", "a cat"}, {"--overwrit", "a cat"}}) {
    const Result r = run(arguments);
    EXPECT_EQ(r.code, 2);
    expect_words(r.err, {"unknown option -"});
    EXPECT_EQ(r.err.find("is given"), std::string::npos) << r.err;
    EXPECT_EQ(r.err.find("no prompt"), std::string::npos) << r.err;
  }
}

TEST_F(Usage, UsageComesBeforeFiles) {
  const Result r = run({"a", "-W", "500", "-m", "/no/such/model", "-o", "missing/x.png"});
  EXPECT_EQ(r.code, 2);
  EXPECT_EQ(r.err.find("/no/such/model"), std::string::npos) << r.err;
  EXPECT_EQ(r.err.find("missing"), std::string::npos) << r.err;
}

TEST_F(Usage, Outputs) {
  make("there.png", "kept");
  refuses({"a", "-o", "there.png"}, {"there.png exists: --overwrite replaces it"});
  EXPECT_EQ(bytes("there.png"), "kept");
  refuses({"a", "-b", "2", "-o", "{hash}.jpg"}, {"{hash} is no field of a name", "pictures are written as PNG",
                                                 "2 pictures need {index} or {seed} in the name"});
  refuses({"a", "b", "-s", "1", "-o", "{seed}.png"}, {"pictures 0 and 1 would both be 1.png"});
  refuses({"a", "b", "-s", "1", "-o", "{model}{seed}.png"}, {"would both be easel-tiny1.png"});
  refuses({"a", "-b", "2", "-o", "-", "--json", "--outdir", "x", "--overwrite"},
          {"standard output takes one picture, these are 2", "--json and -o - both want standard output",
           "--outdir has no effect with -o -", "--overwrite has no effect with -o -"});
  EXPECT_EQ(files(), Words{"there.png"});
}

TEST_F(Usage, WhatOnlyTheCheckpointCanTell) {
  refuses({"a", "--clip-skip", "99", "--sampler", "euler", "--eta", "0.5", "-n", "b", "--cfg-scale", "1"},
          {"--clip-skip 99: this text encoder has layers 1 to 4", "--eta has no effect",
           "--negative-prompt has no effect"});
}

// ---- nothing is drawn ---------------------------------------------------------------------------------------------

TEST_F(Usage, HelpNamesEveryFlag) {
  for (const Words& arguments : std::vector<Words>{{"--help"}, {"generate", "a", "--foo", "-h"}}) {
    const Result r = run(arguments);
    EXPECT_EQ(r.code, 0);
    EXPECT_EQ(r.err, "");
    for (const RequestField& field : request_fields()) {
      std::istringstream flags(field.flags);
      for (std::string flag; std::getline(flags, flag, ',');) expect_words(r.out, {flag});
    }
    expect_words(r.out, {"--batch-count", "--dry-run", "--disable-image-metadata", "Examples:", "easel samplers"});
  }
}

TEST_F(Usage, Version) {
  const Result r = run({"--version"});
  EXPECT_EQ(r.code, 0);
  EXPECT_TRUE(r.out.starts_with("easel 0.")) << r.out;
  expect_words(r.out, {"libtorch 2."});
}

TEST_F(Usage, SamplersListsTheWholeTable) {
  const Result table = run({"samplers"}), lines = run({"samplers", "--json"});
  EXPECT_EQ(table.code, 0);
  const Words rows = lines_of(table.out), objects = lines_of(lines.out);
  ASSERT_EQ(rows.size(), sampler_table().size() + 1);
  ASSERT_EQ(objects.size(), sampler_table().size());
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const SamplerRow& row = sampler_table()[i];
    expect_words(rows[i + 1], {row.name, row.reference, row.paper, row.has_eta ? "yes" : "no"});
    const json object = json::parse(objects[i]);
    EXPECT_EQ(object.at("name"), row.name);
    EXPECT_EQ(object.at("aliases"), json(row.aliases));
    EXPECT_EQ(object.at("eta"), row.has_eta);
    EXPECT_EQ(object.at("stochastic"), row.stochastic);
  }
}

TEST_F(Usage, PromptsArriveAsTyped) {
  const auto prompts = [&](const Words& arguments, const Surroundings& around = {}) {
    Words texts;
    for (const json& request : dry_run(arguments, around)) texts.push_back(request.at("prompt"));
    return texts;
  };
  EXPECT_EQ(prompts({"[a cat, a dog]", "-p", "[b, c]", "one", "--prompt=two", "++", "-p", "", "--prompt=", "-p",
                     "--help", "-p", "samplers", "고양이 🦊", "--", "-x", "--"}),
            (Words{"[a cat, a dog]", "[b, c]", "one", "two", "++", "", "", "--help", "samplers", "고양이 🦊", "-x",
                   "--"}));
  EXPECT_EQ(prompts({"generate", "samplers"}), Words{"samplers"});
  EXPECT_EQ(prompts({"-p", "-", "b"}, {.input = "a cat\n& a dog\r\n\n"}), (Words{"a cat\n& a dog", "b"}));
}

TEST_F(Usage, DryRunResolvesEverything) {
  const std::vector<json> requests =
      dry_run({"a", "b", "-b", "2", "-s", "18446744073709551614", "--negative-prompt=", "--guidance-scale", "3",
               "--sampler", "Euler a", "-qW64", "--dtype=f32", "--device", "cpu"});
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_EQ(requests[0].at("seed"), 18446744073709551614u);
  EXPECT_EQ(requests[1].at("seed"), 18446744073709551615u);
  EXPECT_EQ(requests[2].at("seed"), 18446744073709551614u);
  EXPECT_EQ(requests[3], json::parse(R"({"prompt": "b", "negative_prompt": "", "width": 64, "height": 128,
      "seed": 18446744073709551615, "steps": 20, "cfg_scale": 3.0, "cfg_rescale": 0.0, "cfg_start": 0.0,
      "cfg_end": 1.0, "sampler": "euler_a", "scheduler": "model", "eta": 1.0, "prediction": "v",
      "clip_skip": 1, "model": "easel-tiny", "device": "cpu", "dtype": "f32", "prompt_syntax": "a1111",
      "prompt_weighting": "a1111"})"));
  for (const auto& [name, value] : requests[0].items()) EXPECT_NE(find_request_field(name), nullptr) << name;
  EXPECT_EQ(files(), Words{});
}

TEST_F(Usage, WithoutASeedEachPromptDrawsOneBelow2To32) {
  const Result r = run({"a", "b", "-b", "2", "--dry-run"});
  std::vector<uint64_t> seeds;
  for (const std::string& line : lines_of(r.out)) seeds.push_back(json::parse(line).at("seed"));
  ASSERT_EQ(seeds.size(), 4u);
  EXPECT_EQ(seeds[1], seeds[0] + 1);
  EXPECT_NE(seeds[2], seeds[0]);
  EXPECT_LT(seeds[0], uint64_t{1} << 32);
  expect_words(r.err, {"seed " + std::to_string(seeds[0]) + " for \"a\"", "seed " + std::to_string(seeds[2])});
}

TEST_F(Usage, ModelByOptionVariableOrBundled) {
  const std::string own = EASEL_SOURCE_DIR "/models/easel-tiny";
  const Result bundled = run({"a", "--dry-run"});
  expect_words(bundled.err, {"easel-tiny, the bundled one"});
  const Result variable = run({"a", "--dry-run"}, {.environment = {"EASEL_MODEL=" + own}});
  expect_words(variable.err, {own + " (EASEL_MODEL)"});
  EXPECT_EQ(json::parse(variable.out).at("model"), own);
  const Result option = run({"a", "--dry-run", "--ckpt", own}, {.environment = {"EASEL_MODEL=/no/such/model"}});
  EXPECT_EQ(option.code, 0) << option.err;
  EXPECT_EQ(option.err.find("model:"), std::string::npos) << option.err;
}

}  // namespace
}  // namespace easel::testing
