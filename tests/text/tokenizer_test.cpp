// ClipTokenizer against transformers' CLIPTokenizer (tests/data/golden/tokenizer.jsonl, by
// scripts/golden/tokenizer_golden.py), and what it says of bad files and bad text.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>
#include <sstream>

#include "easel/text.h"

namespace easel {
namespace {

namespace fs = std::filesystem;

const fs::path kPublished = fs::path(EASEL_SOURCE_DIR) / "models/easel-tiny/tokenizer";

const ClipTokenizer& published() {
  static const ClipTokenizer tokenizer = ClipTokenizer::from_folder(kPublished);
  return tokenizer;
}

std::vector<json> golden(const char* member) {
  std::ifstream in(fs::path(EASEL_TEST_DATA) / "golden/tokenizer.jsonl", std::ios::binary);
  std::vector<json> entries;
  for (std::string line; std::getline(in, line);) {
    json entry = json::parse(line);
    if (entry.contains(member)) entries.push_back(std::move(entry));
  }
  return entries;
}

using Ids = std::vector<int64_t>;

Ids ids_of(const json& entry) { return entry.at("ids").get<Ids>(); }
std::string text_of(const json& entry) { return entry.at("text").get<std::string>(); }

std::string read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// A folder of its own for one test, removed at its end.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "easel-tokenizer-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  Folder& write(const std::string& name, const std::string& text) {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return *this;
  }
  Folder& remove(const std::string& name) {
    fs::remove(path_ / name);
    return *this;
  }
  Folder& link_published_vocabulary() {
    for (const char* name : {"vocab.json", "merges.txt"}) fs::create_symlink(kPublished / name, path_ / name);
    return *this;
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

const char* const kSmallVocab =
    R"({"a": 0, "b": 1, "a</w>": 2, "b</w>": 3, "ab": 4, "ab</w>": 5, "abab</w>": 6, "<|startoftext|>": 7, "<|endoftext|>": 8})";
const char* const kSmallMerges = "#version: 0.2\na b\na b</w>\nab ab</w>\n";

Folder& write_small(Folder& folder) {
  return folder.write("vocab.json", kSmallVocab).write("merges.txt", kSmallMerges);
}

json small_tokenizer_json() {
  return {{"added_tokens", json::array()},
          {"model",
           {{"type", "BPE"},
            {"end_of_word_suffix", "</w>"},
            {"vocab", json::parse(kSmallVocab)},
            {"merges", json::parse(R"([["a", "b"], ["a", "b</w>"], ["ab", "ab</w>"]])")}}}};
}

void expect_refused(const fs::path& folder, const std::vector<std::string>& parts) {
  try {
    ClipTokenizer::from_folder(folder);
    FAIL() << "loaded; expected an error with \"" << parts.front() << "\"";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kFile);
    EXPECT_FALSE(e.hint().empty());
    for (const std::string& part : parts)
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what() << "\nlacks " << part;
  }
}

// ---- the reference ------------------------------------------------------------------------------

TEST(ClipTokenizer, IdsAreTheReferences) {
  const auto entries = golden("ids");
  ASSERT_GE(entries.size(), 2500u);
  for (const json& entry : entries) EXPECT_EQ(published().encode(text_of(entry)), ids_of(entry)) << entry.at("text");
}

TEST(ClipTokenizer, PaddedAndCutAsTheReferencesPipelinesDo) {
  int cut = 0;
  for (const json& entry : golden("ids")) {
    const Ids text = ids_of(entry);
    const TokenizedPrompt prompt = published().tokenize(text_of(entry));
    const std::size_t kept = std::min<std::size_t>(text.size(), 75);
    Ids expected = {49406};
    expected.insert(expected.end(), text.begin(), text.begin() + static_cast<std::ptrdiff_t>(kept));
    expected.resize(77, 49407);
    EXPECT_EQ(prompt.ids, expected) << entry.at("text");
    EXPECT_EQ(prompt.length, static_cast<int64_t>(kept) + 2);
    EXPECT_EQ(prompt.cut_length, static_cast<int64_t>(text.size() - kept));
    EXPECT_EQ(prompt.cut, entry.value("cut", "")) << entry.at("text");
    cut += entry.contains("cut");
  }
  EXPECT_GE(cut, 20);
}

TEST(ClipTokenizer, DecodesAsTheReference) {
  const auto entries = golden("decode");
  ASSERT_GE(entries.size(), 10u);
  for (const json& entry : entries)
    EXPECT_EQ(published().decode(entry.at("decode").get<Ids>()), text_of(entry)) << entry.at("decode");
}

// Pad tokens, capitals of special tokens and added tokens depend on how the folder's files spell
// them.
TEST(ClipTokenizer, FolderVariantsAreReadAsTheReferenceDoes) {
  const auto entries = golden("files");
  ASSERT_GE(entries.size(), 20u);
  for (const json& entry : entries) {
    SCOPED_TRACE(entry.at("files").dump());
    Folder folder;
    folder.link_published_vocabulary();
    for (const auto& [name, content] : entry.at("files").items()) folder.write(name, content.dump());
    const auto tokenizer = ClipTokenizer::from_folder(folder.path());
    EXPECT_EQ(tokenizer.max_length(), entry.at("max_length").get<int64_t>());
    EXPECT_EQ(tokenizer.pad_id(), entry.at("pad").get<int64_t>());
    for (const json& one : entry.at("cases")) {
      EXPECT_EQ(tokenizer.encode(text_of(one)), ids_of(one)) << one.at("text");
      const TokenizedPrompt prompt = tokenizer.tokenize(text_of(one));
      EXPECT_EQ(prompt.cut, one.value("cut", "")) << one.at("text");
      ASSERT_EQ(static_cast<int64_t>(prompt.ids.size()), tokenizer.max_length());
      EXPECT_EQ(std::set<int64_t>(prompt.ids.begin() + prompt.length, prompt.ids.end()).size(),
                prompt.length < tokenizer.max_length());
      if (prompt.length < tokenizer.max_length()) {
        EXPECT_EQ(prompt.ids.back(), tokenizer.pad_id());
      }
    }
  }
}

TEST(ClipTokenizer, PublishedVocabularysNumbers) {
  EXPECT_EQ(published().vocab_size(), 49408);
  EXPECT_EQ(published().bos_id(), 49406);
  EXPECT_EQ(published().eos_id(), 49407);
  EXPECT_EQ(published().pad_id(), 49407);
  EXPECT_EQ(published().max_length(), 77);
}

// ---- tokenizer.json -----------------------------------------------------------------------------

// Single files hold no tokenizer: their family's config over the published vocabulary. Its folder's own special tokens
// (here padding with the end token) have no say.
TEST(ClipTokenizer, SpecsPadAsTheirFamiliesDo) {
  const auto pad_of = [](const std::string& config) {
    return ClipTokenizer::from_folder(kPublished, fs::path(EASEL_SOURCE_DIR) / "models/specs" / config).pad_id();
  };
  EXPECT_EQ(published().pad_id(), 49407);
  EXPECT_EQ(pad_of("sd15/tokenizer_config.json"), 49407);
  EXPECT_EQ(pad_of("sd2/tokenizer_config.json"), 0);
  EXPECT_EQ(pad_of("sdxl/tokenizer_config.json"), 49407);
  EXPECT_EQ(pad_of("sdxl/tokenizer_2_config.json"), 0);
  EXPECT_EQ(pad_of("sdxl-refiner/tokenizer_2_config.json"), 0);
  const fs::path spec = fs::path(EASEL_SOURCE_DIR) / "models/specs/sd2/tokenizer_config.json";
  const TokenizedPrompt cat = ClipTokenizer::from_folder(kPublished, spec).tokenize("a cat");
  EXPECT_EQ(Ids(cat.ids.begin(), cat.ids.begin() + 6), (Ids{49406, 320, 2368, 49407, 0, 0}));
}

TEST(ClipTokenizer, TokenizerJsonAloneEqualsVocabAndMerges) {
  json pairs = json::array(), strings = json::array();
  std::istringstream merges(read(kPublished / "merges.txt"));
  std::string line;
  std::getline(merges, line);  // #version
  while (std::getline(merges, line)) {
    strings.push_back(line);
    pairs.push_back({line.substr(0, line.find(' ')), line.substr(line.find(' ') + 1)});
  }
  const auto added = json::parse(R"([
      {"id": 49406, "content": "<|startoftext|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": true},
      {"id": 49407, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}])");
  const auto vocab = json::parse(read(kPublished / "vocab.json"));
  const auto texts = golden("ids");
  for (const json& spelling : {pairs, strings}) {
    const json file = {
        {"version", "1.0"},
        {"added_tokens", added},
        {"post_processor", {{"type", "RobertaProcessing"}}},
        {"model", {{"type", "BPE"}, {"end_of_word_suffix", "</w>"}, {"vocab", vocab}, {"merges", spelling}}}};
    Folder folder;
    folder.write("tokenizer.json", file.dump());
    const auto tokenizer = ClipTokenizer::from_folder(folder.path());
    for (std::size_t i = 0; i < texts.size(); i += 7)
      EXPECT_EQ(tokenizer.encode(text_of(texts[i])), ids_of(texts[i])) << texts[i].at("text");
  }
}

TEST(ClipTokenizer, SmallVocabularyInAllThreeLayouts) {
  Folder files, pairs, strings;
  write_small(files);
  json file = small_tokenizer_json();
  pairs.write("tokenizer.json", file.dump());
  file["model"]["merges"] = {"a b", "a b</w>", "ab ab</w>"};
  strings.write("tokenizer.json", file.dump());
  for (const Folder* folder : {&files, &pairs, &strings}) {
    const auto tokenizer = ClipTokenizer::from_folder(folder->path());
    EXPECT_EQ(tokenizer.encode("ab abab  bab"), (Ids{5, 6, 1, 5}));
    EXPECT_EQ(tokenizer.encode("aab?"), (Ids{0, 5, 8}));  // "?" is not in this vocabulary: the unknown token
    EXPECT_EQ(tokenizer.bos_id(), 7);
  }
}

TEST(ClipTokenizer, WindowsLineEndsInMergesAreRead) {
  Folder folder;
  folder.write("vocab.json", kSmallVocab).write("merges.txt", "#version: 0.2\r\na b\r\na b</w>\r\n");
  EXPECT_EQ(ClipTokenizer::from_folder(folder.path()).encode("ab"), Ids{5});
}

// ---- speed --------------------------------------------------------------------------------------

// Quadratic merging takes over 10 s for these; the bound leaves room for sanitizers.
TEST(ClipTokenizer, LongWordsAndPromptsAreQuick) {
  std::string word;
  for (int i = 0; i < 200000; ++i) word += static_cast<char>('a' + (i * 7919 + i / 3) % 26);
  std::string prompt;
  for (int i = 0; i < 10000; ++i) prompt += "lighthouse ";
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = published().encode(word);
  EXPECT_EQ(published().decode(ids), word);
  EXPECT_EQ(published().tokenize(prompt).cut_length, 10000 - 75);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
}

// ---- UTF-8 --------------------------------------------------------------------------------------

TEST(ClipTokenizer, InvalidUtf8IsRefusedWithItsByte) {
  using namespace std::string_literals;
  const std::pair<std::string, std::size_t> cases[] = {{"\xFF", 0},
                                                       {"a cat \xC0\xAF", 6},
                                                       {"\xC1\xBF", 0},
                                                       {"x\xE0\x80\xAF", 1},
                                                       {"\xF0\x8F\xBF\xBF", 0},
                                                       {"\xED\xA0\x80", 0},
                                                       {"ab\xED\xBF\xBF", 2},
                                                       {"\x80", 0},
                                                       {"é\xBF", 2},
                                                       {"\xF4\x90\x80\x80", 0},
                                                       {"\xF5\x80\x80\x80", 0},
                                                       {"cat \xE2\x82", 4},
                                                       {"\xF0\x9F\x90", 0},
                                                       {"\xC3", 0},
                                                       {"\xE2\x28\xA1", 0},
                                                       {"a\0\xFE"s, 2},
                                                       {"\xF0\x9F\x90\xB1\xF0\x9F", 4}};
  for (const auto& [text, at] : cases) {
    EXPECT_EQ(invalid_utf8_at(text), at);
    try {
      published().tokenize(text);
      ADD_FAILURE() << "taken: invalid at byte " << at;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      EXPECT_NE(std::string(e.what()).find("at byte " + std::to_string(at)), std::string::npos) << e.what();
    }
  }
}

TEST(ClipTokenizer, EveryValidCharacterIsValidUtf8) {
  for (const std::string text :
       {"", "a", "\x7F", "\u0080", "\u07FF", "\u0800", "\uD7FF", "\uE000", "\uFFFF", "\U00010000", "\U0010FFFF"}) {
    EXPECT_EQ(invalid_utf8_at(text), std::nullopt);
  }
  EXPECT_EQ(invalid_utf8_at(std::string_view("a\0b", 3)), std::nullopt);
}

// ---- bad files ----------------------------------------------------------------------------------

TEST(TokenizerFiles, NeitherLayoutIsThere) {
  Folder folder;
  expect_refused(folder.path(),
                 {folder.path().string(), "vocab.json and merges.txt, or tokenizer.json", "none of them"});
  expect_refused(folder.path() / "nowhere", {"nowhere", "none of them"});
  folder.write("vocab.json", kSmallVocab);
  expect_refused(folder.path(), {"merges.txt is missing"});
  folder.remove("vocab.json").write("merges.txt", kSmallMerges);
  expect_refused(folder.path(), {"vocab.json is missing"});
}

TEST(TokenizerFiles, BadVocabulary) {
  const std::pair<std::string, std::vector<std::string>> cases[] = {
      {"", {"not JSON"}},
      {"{\"a\": 0", {"not JSON"}},
      {"{\"a\": 0} x", {"not JSON"}},
      {"{\"\xFF\": 0}", {"not JSON"}},
      {"[1, 2]", {"expected a JSON object", "an array"}},
      {"7", {"expected a JSON object", "7"}},
      {R"({"a": "0"})", {"\"a\"", "integer", "\"0\""}},
      {R"({"a": 0, "b": 1.5})", {"\"b\"", "integer", "1.5"}},
      {R"({"a": null})", {"\"a\"", "integer", "null"}},
      {R"({"a": true})", {"\"a\"", "integer", "true"}},
      {R"({"a": {"b": 1}})", {"\"a\"", "integer", "an object"}},
      {R"({"a": []})", {"\"a\"", "integer", "an array"}},
      {R"({"a": -1})", {"\"a\"", "got -1"}},
      {R"({"a": 4000000000})", {"\"a\"", "expected an id from 0"}},
      {R"({"a": 18446744073709551615})", {"\"a\"", "expected an id from 0"}},
      {R"({"a": 0, "b": 0})", {"\"b\"", "id 0 belongs to \"a\""}},
      {R"({"a": 0, "a": 1})", {"\"a\"", "twice"}},
  };
  for (const auto& [text, parts] : cases) {
    Folder folder;
    folder.write("vocab.json", text).write("merges.txt", kSmallMerges);
    auto all = parts;
    all.push_back((folder.path() / "vocab.json").string());
    expect_refused(folder.path(), all);
  }
}

TEST(TokenizerFiles, BadMerges) {
  const std::pair<std::string, std::vector<std::string>> cases[] = {
      {"#version: 0.2\na b\nab\n", {"line 3", "two parts", "\"ab\""}},
      {"a b c\n", {"line 1", "two parts", "\"a b c\""}},
      {"a b\n\na b</w>\n", {"line 2", "two parts"}},
      {"a \n", {"line 1", "two parts"}},
      {" a\n", {"line 1", "two parts"}},
      {"a b\nb a\n", {"line 2", "\"ba\"", "not in the vocabulary"}},
      {"a z\n", {"line 1", "\"z\"", "not in the vocabulary"}},
      {"z a\n", {"line 1", "\"z\"", "not in the vocabulary"}},
  };
  for (const auto& [text, parts] : cases) {
    Folder folder;
    folder.write("vocab.json", kSmallVocab).write("merges.txt", text);
    auto all = parts;
    all.push_back("merges.txt");
    expect_refused(folder.path(), all);
  }
}

TEST(TokenizerFiles, MissingSpecialTokens) {
  Folder folder;
  folder.write("vocab.json", R"({"a": 0, "<|startoftext|>": 1})").write("merges.txt", "");
  expect_refused(folder.path(), {"vocab.json", "<|endoftext|>", "neither in the vocabulary"});
  folder.write("vocab.json", R"({"a": 0, "<|endoftext|>": 1})");
  expect_refused(folder.path(), {"vocab.json", "<|startoftext|>", "neither in the vocabulary"});
  write_small(folder).write("tokenizer_config.json", R"({"pad_token": "<pad>"})");
  expect_refused(folder.path(), {"tokenizer_config.json", "<pad>", "neither in the vocabulary"});
  folder.write("tokenizer_config.json",
               R"({"pad_token": "<pad>", "added_tokens_decoder": {"9": {"content": "<pad>"}}})");
  EXPECT_EQ(ClipTokenizer::from_folder(folder.path()).pad_id(), 9);
}

TEST(TokenizerFiles, BadConfiguration) {
  const std::pair<std::string, std::vector<std::string>> cases[] = {
      {"{", {"not JSON"}},
      {"[]", {"expected a JSON object"}},
      {R"({"model_max_length": "77"})", {"model_max_length", "\"77\""}},
      {R"({"model_max_length": 2})", {"model_max_length", "at least 3", "got 2"}},
      {R"({"pad_token": 3})", {"pad_token", "expected a token", "3"}},
      {R"({"pad_token": null})", {"pad_token", "null"}},
      {R"({"bos_token": {"lstrip": true}})", {"bos_token", "content"}},
      {R"({"bos_token": {"content": "a", "lstrip": 1}})", {"bos_token.lstrip", "true or false"}},
      {R"({"bos_token": {"content": "a", "single_word": true}})", {"bos_token", "single_word"}},
      {R"({"padding_side": "left"})", {"padding_side", "left"}},
      {R"({"truncation_side": "left"})", {"truncation_side", "left"}},
      {R"({"split_special_tokens": true})", {"split_special_tokens"}},
      {R"({"added_tokens_decoder": []})", {"added_tokens_decoder", "an array"}},
      {R"({"added_tokens_decoder": {"x": {"content": "a"}}})", {"added_tokens_decoder", "\"x\""}},
      {R"({"added_tokens_decoder": {"5": {"content": "a"}}})", {"\"a\"", "expected id 0, got 5"}},
      {R"({"added_tokens_decoder": {"12": {"content": "new"}}})", {"\"new\"", "expected id 9, got 12"}},
  };
  for (const auto& [text, parts] : cases) {
    Folder folder;
    write_small(folder).write("tokenizer_config.json", text);
    auto all = parts;
    all.push_back("tokenizer_config.json");
    expect_refused(folder.path(), all);
  }
  Folder folder;
  write_small(folder).write("special_tokens_map.json", "nonsense");
  expect_refused(folder.path(), {"special_tokens_map.json", "not JSON"});
  folder.remove("special_tokens_map.json").write("added_tokens.json", R"({"x": "9"})");
  expect_refused(folder.path(), {"added_tokens.json", "\"x\"", "integer"});
}

TEST(TokenizerFiles, NoLimitIs77) {
  for (const char* config :
       {R"({"model_max_length": 1000000000000000019884624838656})", R"({"model_max_length": null})", "{}"}) {
    Folder folder;
    write_small(folder).write("tokenizer_config.json", config);
    EXPECT_EQ(ClipTokenizer::from_folder(folder.path()).max_length(), 77) << config;
  }
}

TEST(TokenizerFiles, BadTokenizerJson) {
  const auto with = [](const char* pointer, json value) {
    json file = small_tokenizer_json();
    file[json::json_pointer(pointer)] = std::move(value);
    return file.dump();
  };
  const std::pair<std::string, std::vector<std::string>> cases[] = {
      {"{", {"not JSON"}},
      {"{}", {"no \"model\""}},
      {R"({"model": 1})", {"model", "an object"}},
      {R"({"model": {"merges": []}})", {"no \"vocab\""}},
      {R"({"model": {"vocab": {}}})", {"no \"merges\""}},
      {with("/model/type", "Unigram"), {"model.type", "BPE", "Unigram"}},
      {with("/model/end_of_word_suffix", nullptr), {"end_of_word_suffix", "</w>", "null"}},
      {with("/post_processor", {{"type", "BertProcessing"}}), {"post_processor.type", "BertProcessing"}},
      {with("/model/vocab", json::array()), {"vocab", "an array"}},
      {with("/model/vocab/a", "0"), {"model.vocab", "\"a\"", "integer"}},
      {with("/model/vocab/a", 1), {"id 1 belongs to"}},
      {with("/model/vocab/a", 18446744073709551615u), {"\"a\"", "expected an id from 0"}},
      {with("/model/merges/1", "ab"), {"model.merges, number 1", "two parts"}},
      {with("/model/merges/2", {"a"}), {"model.merges, number 2"}},
      {with("/model/merges/0", {"b", "a"}), {"model.merges, number 0", "\"ba\"", "not in the vocabulary"}},
      {with("/added_tokens", 3), {"added_tokens", "an array"}},
      {with("/added_tokens/0", {{"content", "x"}}), {"added_tokens, number 0", "id"}},
      {with("/added_tokens/0", {{"content", "a"}, {"id", 3}}), {"\"a\"", "expected id 0, got 3"}},
  };
  for (const auto& [text, parts] : cases) {
    Folder folder;
    folder.write("tokenizer.json", text);
    auto all = parts;
    all.push_back("tokenizer.json");
    expect_refused(folder.path(), all);
  }
}

}  // namespace
}  // namespace easel
