// The prompt language: its pieces against what AUTOMATIC1111 documents, and 200 prompts against the reference data of
// scripts/golden/prompt_golden.py, down to the embeddings.
#include "easel/prompt.h"

#include <cmath>

#include "text/encoders.h"

namespace easel {
namespace {

using namespace testing;

using Weighted = std::vector<std::pair<std::string, double>>;

void expect_weights(const std::string& text, const Weighted& want) {
  const std::vector<WeightedText> got = weighted_texts(text);
  ASSERT_EQ(got.size(), want.size()) << text;
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].text, want[i].first) << text;
    EXPECT_NEAR(got[i].weight, want[i].second, 1e-12) << text;
  }
}

TEST(PromptWeights, AsDocumented) {
  expect_weights("normal text", {{"normal text", 1}});
  expect_weights("an (important) word", {{"an ", 1}, {"important", 1.1}, {" word", 1}});
  expect_weights("(unbalanced", {{"unbalanced", 1.1}});
  expect_weights("[unbalanced", {{"unbalanced", 1 / 1.1}});
  expect_weights("\\(literal\\]", {{"(literal]", 1}});
  expect_weights("(unnecessary)(parens)", {{"unnecessaryparens", 1.1}});
  expect_weights("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", {{"a ", 1},
                                                                         {"house", 1.573},
                                                                         {" ", 1.1},
                                                                         {"on", 1.1 / 1.1},
                                                                         {" a ", 1.1},
                                                                         {"hill", 0.55},
                                                                         {", sun, ", 1.1},
                                                                         {"sky", 1.4641},
                                                                         {".", 1.1}});
  expect_weights("", {{"", 1}});
  expect_weights("(a: 1.5 )", {{"a", 1.5}});
  expect_weights("16:9) and 1.3)", {{"16:9) and 1.3)", 1}});
  expect_weights("(a:1.2.3)", {{"a:1.2.3", 1.1}});
  expect_weights("(a:-0.5)", {{"a", -0.5}});
}

TEST(PromptWeights, BreakIsAWordOfItsOwn) {
  const std::vector<WeightedText> texts = weighted_texts("a BREAK (b BREAK c:1.2) BREAKFAST");
  std::string seen;
  for (const WeightedText& t : texts) seen += t.is_break ? "/" : "'" + t.text + "'";
  EXPECT_EQ(seen, "'a'/'''b'/'c'' BREAKFAST'");
}

TEST(PromptWeights, OddBracketsAreTold) {
  EXPECT_TRUE(oddities_of("a (b) [c] \\( d:e").empty());
  EXPECT_EQ(oddities_of("((a").front(), "2 brackets are not closed: the weight goes on to the end");
  EXPECT_EQ(oddities_of("a)").front(), "1 bracket is closed without being opened: text");
}

// ---- schedules ----------------------------------------------------------------------------------------------------

std::string schedule_of(const std::string& prompt, int64_t steps = 10, std::optional<int64_t> first = std::nullopt) {
  std::string text;
  for (const ScheduledText& entry : scheduled_texts(prompt, steps, first))
    text += (text.empty() ? "" : " ") + std::to_string(entry.last_step) + "'" + entry.text + "'";
  return text;
}

TEST(PromptSchedule, AsDocumented) {
  EXPECT_EQ(schedule_of("test"), "10'test'");
  EXPECT_EQ(schedule_of("a [b:3]"), "3'a ' 10'a b'");
  EXPECT_EQ(schedule_of("a [b: 3]"), "3'a ' 10'a b'");
  EXPECT_EQ(schedule_of("a [[[b]]:2]"), "2'a ' 10'a [[b]]'");
  EXPECT_EQ(schedule_of("[(a:2):3]"), "3'' 10'(a:2)'");
  EXPECT_EQ(schedule_of("a [b : c : 1] d"), "1'a b  d' 10'a  c  d'");
  EXPECT_EQ(schedule_of("a[b:[c:d:2]:1]e"), "1'abe' 2'ace' 10'ade'");
  EXPECT_EQ(schedule_of("a [unbalanced"), "10'a [unbalanced'");
  EXPECT_EQ(schedule_of("a [b:.5] c"), "5'a  c' 10'a b c'");
  EXPECT_EQ(schedule_of("((a][:b:c [d:3]"), "3'((a][:b:c ' 10'((a][:b:c d'");
  EXPECT_EQ(schedule_of("[a|(b:1.1)]", 4), "1'a' 2'(b:1.1)' 3'a' 4'(b:1.1)'");
  EXPECT_EQ(schedule_of("[fe|]male", 3), "1'female' 2'male' 3'female'");
  EXPECT_EQ(schedule_of("[fe|||]male", 6), "1'female' 4'male' 5'female' 6'male'");
  EXPECT_EQ(schedule_of("a [b:.5] c", 10, 10), "10'a b c'");
  EXPECT_EQ(schedule_of("a [b:1.5] c", 10, 10), "5'a  c' 10'a b c'");
  EXPECT_EQ(schedule_of("a [b:13] c", 10, 10), "3'a  c' 10'a b c'");
}

TEST(PromptSchedule, EdgesOfTheRun) {
  EXPECT_EQ(schedule_of("[a::0]"), "10''") << "step 0 is before the first";
  EXPECT_EQ(schedule_of("[a:b:-3]"), "10'b'");
  EXPECT_EQ(schedule_of("[a:b:1000000000000000000000]"), "10'a'");
  EXPECT_EQ(schedule_of("[a:b:1e1]"), "10'a'");
  EXPECT_EQ(schedule_of("[a:b:nan]"), "10'[a:b:nan]'");
  EXPECT_EQ(schedule_of("[a:b:c:3]"), "10'[a:b:c:3]'");
  EXPECT_EQ(schedule_of("[a:b|c:3]"), "10'[a:b|c:3]'");
  EXPECT_EQ(schedule_of("\\[a:b:3]"), "10'\\[a:b:3]'");
  EXPECT_EQ(schedule_of("[a (b:3]"), "10'[a (b:3]'");
  EXPECT_EQ(scheduled_texts(std::string(20000, '[') + "a:3]", 10).size(), 2u) << "and at once";
}

TEST(PromptSchedule, TextsAtSteps) {
  const auto schedule = scheduled_texts("[a:b:3]", 10);
  EXPECT_EQ(text_at(schedule, 0), "a");
  EXPECT_EQ(text_at(schedule, 3), "a");
  EXPECT_EQ(text_at(schedule, 4), "b");
  EXPECT_EQ(text_at(schedule, 99), "b");
}

TEST(PromptComposition, Parts) {
  const auto parts = [](const std::string& prompt) {
    std::string text;
    for (const ComposedText& part : split_composition(prompt)) text += plain(part.weight) + "'" + part.text + "'";
    return text;
  };
  EXPECT_EQ(parts("a cat AND a dog :1.2 AND x:-0.5 "), "1'a cat'1.2'a dog'-0.5'x'");
  EXPECT_EQ(parts("SAND ANDY and BAND"), "1'SAND ANDY and BAND'");
  EXPECT_EQ(parts("a frame of 16:9 "), "1'a frame of 16:9 '") << "one part has no weight";
  EXPECT_EQ(parts("(a:1.2) AND b"), "1'(a:1.2)'1'b'");
  EXPECT_EQ(parts("AND"), "1''1''");
}

TEST(PromptTags, LorasAreTakenOut) {
  const TaggedPrompt p =
      without_tags("a <lora:ink:0.7> cat <lyco:x:0.5:0.25><lora:y><3 <other:z> <lora:q:te=0.5:unet=2>");
  EXPECT_EQ(p.text, "a  cat <3 <other:z> ");
  EXPECT_TRUE(p.faults.empty());
  ASSERT_EQ(p.loras.size(), 4u);
  const auto is = [&](std::size_t i, const std::string& name, double text, double unet) {
    EXPECT_EQ(p.loras[i].name, name);
    EXPECT_EQ(p.loras[i].text_encoder, text);
    EXPECT_EQ(p.loras[i].unet, unet);
  };
  is(0, "ink", 0.7, 0.7);
  is(1, "x", 0.5, 0.25);
  is(2, "y", 1, 1);
  is(3, "q", 0.5, 2);
}

TEST(PromptTags, FaultsAreNamed) {
  const auto fault = [](const std::string& prompt) {
    const TaggedPrompt p = without_tags(prompt);
    return p.faults.empty() ? "" : p.faults.front();
  };
  EXPECT_NE(fault("<lora:a:much>").find("'much' is no strength"), std::string::npos);
  EXPECT_NE(fault("<lora:a:1:1:1>").find("more than two"), std::string::npos);
  EXPECT_NE(fault("<lora:a:dyn=3>").find("unknown dyn="), std::string::npos);
  EXPECT_NE(fault("<lora::1>").find("names no file"), std::string::npos);
  EXPECT_NE(fault("<hypernet:a:1>").find("not supported"), std::string::npos);
}

// ---- 200 prompts --------------------------------------------------------------------------------------------------

const std::filesystem::path kModels = std::filesystem::path(EASEL_SOURCE_DIR) / "models";

struct Model {
  ClipTextEncoder encoder;
  ClipTokenizer tokenizer;
  int64_t layer;
  StateNorm norm;

  Tensor ids(const PromptChunk& chunk) const { return at::tensor(chunk.ids, at::kLong).unsqueeze(0); }
  EncodedText encode(const PromptChunk& chunk, const Tensor& seen) const {
    return encoder(ids(chunk), layer, norm, tokenizer.eos_id(), {{}, seen});
  }
  EncodedText embeddings(const std::vector<PromptChunk>& chunks, PromptWeighting weighting) const {
    return encode_weighted(
        chunks, weighting, [&](const PromptChunk& chunk, const Tensor& seen) { return encode(chunk, seen); },
        [&] { return encode(chunks_of(tokenizer.chunk_rules(), {{}}).front(), {}).states; });
  }
};

// Every 97-th value.
Tensor sampled(const Tensor& states) {
  constexpr int64_t kStride = 97;
  return states.flatten().slice(0, 0, std::nullopt, kStride);
}

double larger(double a, double b) { return std::isnan(a) || a >= b ? a : b; }  // NaN is kept

// The largest difference of embeddings, relative to the largest value.
constexpr double kTolerance = 1e-5;

TEST(Prompts, EqualTheReferences) {
  const std::filesystem::path tokenizer = kModels / "easel-tiny/tokenizer";
  const Model sd1{family_encoder("sd1", "text_encoder"), ClipTokenizer::from_folder(tokenizer), 1, StateNorm::kFinal};
  const Model sdxl{family_encoder("sdxl", "text_encoder_2"),
                   ClipTokenizer::from_folder(tokenizer, kModels / "specs/sdxl/tokenizer_2_config.json"), 2,
                   StateNorm::kNone};
  const SourcePtr golden = open_safetensors(data("golden/prompts.safetensors"));
  const json prompts = read(data("golden/prompts.json"));
  ASSERT_EQ(prompts.size(), 200u);
  double a1111 = 0, compel = 0, pooled = 0;
  int by_compel = 0, long_ones = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const std::string text = prompts[i].at("text"), key = std::to_string(i) + ".";
    SCOPED_TRACE(key + " " + text);
    const Model& model = prompts[i].at("model") == "sdxl" ? sdxl : sd1;
    const std::vector<PromptChunk> chunks = chunks_of(model.tokenizer.chunk_rules(), weighted_texts(text));
    const Tensor ids = golden->load(key + "ids").to(at::kLong), weights = golden->load(key + "weights");
    ASSERT_EQ(static_cast<int64_t>(chunks.size()), ids.size(0));
    long_ones += chunks.size() > 1;
    for (std::size_t c = 0; c < chunks.size(); ++c) {
      ASSERT_TRUE(at::equal(model.ids(chunks[c])[0], ids[static_cast<int64_t>(c)]));
      ASSERT_TRUE(at::allclose(at::tensor(chunks[c].weights, at::kFloat), weights[static_cast<int64_t>(c)], 0, 1e-6));
    }
    const EncodedText own = model.embeddings(chunks, PromptWeighting::kA1111);
    a1111 = larger(a1111, relative_difference(sampled(own.states), golden->load(key + "a1111")));
    if (own.pooled.defined()) pooled = larger(pooled, relative_difference(own.pooled[0], golden->load(key + "pooled")));
    if (!prompts[i].at("compel").get<bool>()) continue;
    ++by_compel;
    const Tensor states = model.embeddings(chunks, PromptWeighting::kCompel).states;
    compel = larger(compel, relative_difference(sampled(states), golden->load(key + "compel")));
  }
  std::cout << "200 prompts, " << long_ones << " of several chunks: a1111 " << a1111 << ", pooled " << pooled
            << "; compel " << compel << " (" << by_compel << ")\n";
  EXPECT_LE(a1111, kTolerance);
  EXPECT_LE(compel, kTolerance);
  EXPECT_LE(pooled, kTolerance);
  EXPECT_GE(by_compel, 100);
  EXPECT_GE(long_ones, 50);
}

// ---- words with vectors of their own ------------------------------------------------------------------------------

TEST(PromptWords, VectorsStandInTheirPlace) {
  const Model sd1{family_encoder("sd1", "text_encoder"), ClipTokenizer::from_folder(kModels / "easel-tiny/tokenizer"),
                  1, StateNorm::kFinal};
  const ChunkRules rules = sd1.tokenizer.chunk_rules();
  const std::vector<EmbeddingWord> words = {{rules.encode("inkwash"), 3}, {rules.encode("inkwash style"), 2}};
  const PromptChunk chunk = chunks_of(rules, weighted_texts("a (inkwash:1.2) cat, inkwash style"), words).front();
  ASSERT_EQ(chunk.words.size(), 2u);
  EXPECT_EQ(chunk.words[0].position, 2);
  EXPECT_EQ(chunk.words[0].word, 0u);
  EXPECT_EQ(chunk.words[1].word, 1u) << "the longer one";
  EXPECT_EQ(chunk.length, 2 + 1 + 3 + 2 + 2);
  EXPECT_EQ(chunk.weights[4], 1.2);
  // Vectors that are a token's own embedding change nothing.
  const std::vector<int64_t> plain = rules.encode("a cat");
  const PromptChunk text = chunks_of(rules, weighted_texts("a cat")).front();
  const Tensor table =
      weights("text_encoder").get("embeddings.token_embedding.weight", {49408, sd1.encoder.spec().hidden_size});
  TextExtras extras;
  extras.vectors.push_back({0, 1, table.index_select(0, at::tensor(plain))});
  const Tensor want = sd1.encode(text, {}).states;
  PromptChunk blank = text;
  blank.ids[1] = blank.ids[2] = 0;
  EXPECT_TRUE(
      at::equal(sd1.encoder(sd1.ids(blank), 1, StateNorm::kFinal, sd1.tokenizer.eos_id(), extras).states, want));
  EXPECT_FALSE(at::equal(sd1.encode(blank, {}).states, want));
}

TEST(PromptWords, AreNotTornApart) {
  const ClipTokenizer tokenizer = ClipTokenizer::from_folder(kModels / "easel-tiny/tokenizer");
  const ChunkRules rules = tokenizer.chunk_rules();
  std::string text;
  for (int i = 0; i < 70; ++i) text += "cat ";
  const auto chunks = chunks_of(rules, weighted_texts(text + "inkwash dog"), {{rules.encode("inkwash"), 8}});
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].length, 72);
  ASSERT_EQ(chunks[1].words.size(), 1u);
  EXPECT_EQ(chunks[1].words[0].position, 1);
  EXPECT_EQ(chunks[1].length, 2 + 8 + 1);
}

}  // namespace
}  // namespace easel
